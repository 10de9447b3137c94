"""What an emptied Redis costs: nothing."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

CONTENTS = list(range(1, 21))
USERS = 40


@dataclass
class Observed:
    """What a client of serving saw, in order."""

    statuses: list[int] = field(default_factory=list)


@contextmanager
def watching(system: RunningSystem) -> Iterator[Observed]:
    """Ask serving for rankings without a break, on a thread of its own."""
    observed, stop = Observed(), threading.Event()

    def poll() -> None:
        with httpx.Client(timeout=10) as http:
            while not stop.wait(0.02):
                body = {"user_id": "watcher", "candidates": CONTENTS, "size": 5}
                answer = http.post(f"{system.serving.url}/api/v1/rank", json=body)
                observed.statuses.append(answer.status_code)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield observed
    finally:
        stop.set()
        thread.join()


def _play(system: RunningSystem, rounds: int, numbers: Iterator[int]) -> None:
    """Let users be shown something and click on it."""
    for number in itertools.islice(numbers, rounds):
        user = f"user-{number % USERS}"
        shown = system.rank(user, CONTENTS, size=5)
        system.click(user, shown["slate"][number % 5]["content_id"], shown["impression_id"])


def test_an_emptied_redis_costs_no_request_and_comes_back(system: RunningSystem) -> None:
    _play(system, 60, itertools.count())
    system.wait_for_newer_snapshot(0)
    history = system.history("user-1")
    assert history
    with watching(system) as observed:
        system.flush_redis()
        eventually(lambda: system.stored_version(), "a snapshot in the emptied Redis")
        eventually(lambda: system.history("user-1") == history, "the histories")
        eventually(lambda: len(observed.statuses) > 20, "answers during and after the outage")
    assert set(observed.statuses) == {200}
