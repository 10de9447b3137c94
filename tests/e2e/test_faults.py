"""What a crash costs: nothing."""

import itertools
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from infra.services import ROOT
from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

CONTENTS = list(range(1, 21))
USERS = 40


@dataclass
class Observed:
    """What a client of serving saw, in order."""

    statuses: list[int] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


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
                if answer.status_code == 200:
                    observed.versions.append(answer.json()["snapshot_version"])

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


def _ledger(system: RunningSystem) -> Counter[str]:
    command = [sys.executable, "-m", "services.learner.ledger", str(system.checkpoints)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return Counter(json.loads(line) for line in printed.stdout.splitlines())


def test_killing_the_learner_loses_and_doubles_nothing(system: RunningSystem) -> None:
    numbers = itertools.count()
    with watching(system) as observed:
        _play(system, 60, numbers)
        system.wait_for_newer_snapshot(0)
        for _ in range(2):
            _play(system, 60, numbers)
            system.learner.kill()
            _play(system, 60, numbers)
            system.learner.start()
            system.learner.wait_ready()
        version = system.snapshot_version()
        _play(system, 60, numbers)
        system.wait_until_learned()
        system.wait_for_newer_snapshot(version)
    assert system.learner.stop() == 0

    ledger = _ledger(system)
    assert len(system.acknowledged) == 360
    assert {event_id: ledger[event_id] for event_id in system.acknowledged if ledger[event_id] != 1} == {}
    assert max(ledger.values()) == 1
    assert set(observed.statuses) == {200}
    distinct = [version for version, _ in itertools.groupby(observed.versions)]
    assert len(distinct) > 2
    assert distinct == sorted(set(distinct))


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
