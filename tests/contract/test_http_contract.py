"""Both services against their own OpenAPI: schemathesis sends what fits the schemas and what does not.

Whatever is sent, the answer is one that the document names, in the shape it names, and no failure but a 503. The
budget is fixed and the draws are the same in every run.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from libs.adapters.http_protocol import GuardedProtocol
from libs.rl.snapshot import encode
from libs.text.vectors import TextVectors
from services.cli.twins import Twins
from services.ingest.assembly import Ingest
from services.ingest.settings import Settings as IngestSettings
from services.serving.app import create_app
from services.serving.assembly import Serving
from services.serving.settings import Settings as ServingSettings
from tests.snapshots import random_snapshot
from tests.unit.serving.world import meta_of

VECTOR = 8
BUDGET = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Measures:
    """A text model that only counts characters."""

    version = "measures"

    def infer(self, title: str, description: str = "") -> Any:
        return np.array([len(title), len(description), *[1.0] * (VECTOR - 2)], np.float32)


def ingest(twins: Twins, _: Path) -> FastAPI:
    given = IngestSettings(_env_file=None, vector_size=VECTOR)
    return Ingest(given, twins.of_ingest(), CollectorRegistry()).app()


def serving(twins: Twins, folder: Path) -> FastAPI:
    given = ServingSettings(_env_file=None, vector_size=VECTOR, state_path=str(folder))
    ports = twins.of_serving()
    object.__setattr__(ports, "texts", TextVectors(Measures()))
    return create_app(Serving(given, ports, CollectorRegistry()))


@contextmanager
def served(make: Callable[[Twins, Path], FastAPI], folder: Path) -> Iterator[str]:
    """Run a service on the twins, on a loop of its own, and return its address."""
    servers: list[uvicorn.Server] = []
    started = threading.Event()

    async def run() -> None:
        twins = Twins()
        snapshot = random_snapshot((1, 2, 3), VECTOR, seed=1)
        blob = encode(snapshot)
        await twins.snapshots.publish(meta_of(snapshot, blob, 1_000), blob)
        app = make(twins, folder)
        server = uvicorn.Server(uvicorn.Config(app, port=0, http=GuardedProtocol, ws="none", log_config=None))
        servers.append(server)
        running = asyncio.create_task(server.serve())
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        started.set()
        await running

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{servers[0].servers[0].sockets[0].getsockname()[1]}"
    finally:
        servers[0].should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def ingest_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with served(ingest, tmp_path_factory.mktemp("ingest")) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.fixture(scope="module")
def serving_schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with served(serving, tmp_path_factory.mktemp("serving")) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def check(case: Any) -> None:
    response = case.call(timeout=20)
    checks = CHECKS if response.status_code == 503 else [not_a_server_error, *CHECKS]
    case.validate_response(response, checks=checks)


def free(parameter: Any) -> bool:
    """Tell whether every text is a valid one: what fits nothing cannot be drawn then."""
    schema = parameter.definition["schema"]
    return bool(schema["type"] == "string" and schema.keys() <= {"type", "title", "description"})


def fuzz(schema: Any) -> set[str]:
    """Send what fits and what does not to every operation; return the operations."""
    sent = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        wrong = any(map(len, (operation.body, operation.query))) or not all(map(free, operation.path_parameters))
        for mode in GenerationMode if wrong else (GenerationMode.POSITIVE,):
            BUDGET(given(case=operation.as_strategy(generation_mode=mode))(check))()
        sent.add(operation.label)
    return sent


# The services run in a thread of this process, and their pauses draw from the module that strategies must not use.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")


def test_ingest_keeps_its_contract(ingest_schema: Any) -> None:
    assert fuzz(ingest_schema) >= {"POST /api/v1/events", "PUT /api/v1/contents/{content_id}"}


def test_serving_keeps_its_contract(serving_schema: Any) -> None:
    assert fuzz(serving_schema) >= {"POST /api/v1/rank", "POST /api/v1/predict/top-contents"}
