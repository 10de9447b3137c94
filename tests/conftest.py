"""Fixtures of the real stack. It is mandatory: a machine without it fails these tests, it does not skip them."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.kafka_server import CACHE_VARIABLE, cache_folder
from infra.local import VARIABLES, Addresses, LocalStack
from infra.services import ServiceName, ServiceProcess


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> None:
    """Tests see the machine's cache and no other setting of the person who runs them."""
    os.environ[CACHE_VARIABLE] = str(cache_folder())
    for name in list(os.environ):
        if name in VARIABLES.values() or (name.startswith("MOARD_") and name != CACHE_VARIABLE):
            del os.environ[name]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """Addresses of one real Kafka, Redis and MariaDB that all tests share: use names of your own."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as shared:
        yield shared.addresses


@pytest.fixture
def fresh_stack(tmp_path: Path) -> Iterator[Callable[..., LocalStack]]:
    """Start stacks of the test's own; what it started is stopped at its end."""
    started: list[LocalStack] = []

    def start(**options: Any) -> LocalStack:
        own = LocalStack(tmp_path / f"stack-{len(started)}", **options)
        started.append(own)
        own.up()
        return own

    yield start
    for own in started:
        own.down()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start services and wait until they are ready; they are stopped at the end of the test."""
    started: list[ServiceProcess] = []

    def start(name: ServiceName, environment: Mapping[str, str], **options: Any) -> ServiceProcess:
        service = ServiceProcess(name, environment, tmp_path / "services", **options)
        started.append(service)
        service.start()
        service.wait_ready()
        return service

    yield start
    for service in reversed(started):
        service.stop()
