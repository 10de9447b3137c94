"""A whole moard for one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import LocalStack
from tests.running_system import RunningSystem, running_system

EAGER = {
    "MOARD_LEARNER_LEARNING_STARTS": "1",
    "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "2",
    "MOARD_SERVING_EPSILON": "0",
    "MOARD_SERVING_GREEDY": "1",
}
"""Learn from the first row on, save often, and always show the best: what a test can follow."""


@pytest.fixture
def settings() -> dict[str, str]:
    """What the services of ``system`` are told; a test module may say otherwise."""
    return EAGER


@pytest.fixture
def system(fresh_stack: Callable[..., LocalStack], settings: dict[str, str], tmp_path: Path) -> Iterator[RunningSystem]:
    """Kafka, Redis, MariaDB and the three services, all this test's own."""
    with running_system(fresh_stack(), tmp_path, settings) as system:
        yield system


def write_program(path: Path, arguments: str) -> None:
    """Write a program that runs this interpreter: what an installation would have put there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
    path.chmod(0o755)
