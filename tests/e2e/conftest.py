"""A whole moard for one test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from tests.e2e.running_system import RunningSystem

EAGER = {
    "MOARD_LEARNER_LEARNING_STARTS": "1",
    "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "2",
    "MOARD_SERVING_EPSILON": "0",
    "MOARD_SERVING_GREEDY": "1",
}
"""Learn from the first row on, save often, and always show the best: what a test can follow."""


@pytest.fixture
def system(
    fresh_stack: Callable[..., LocalStack], services: Callable[..., ServiceProcess], tmp_path: Path
) -> Iterator[RunningSystem]:
    """Kafka, Redis, MariaDB and the three services, all this test's own."""
    stack = fresh_stack()
    upgrade(stack.addresses.database_url)
    environment = stack.addresses.environment() | EAGER
    environment["MOARD_LEARNER_CHECKPOINT_PATH"] = str(tmp_path / "checkpoints")
    environment["MOARD_STATE_PATH"] = str(tmp_path / "state")
    system = RunningSystem(
        stack=stack,
        ingest=services("ingest", environment),
        learner=services("learner", environment),
        serving=services("serving", environment),
        checkpoints=tmp_path / "checkpoints",
    )
    with system.http:
        yield system
