"""Users who are shown rankings and click, driven through HTTP by a backend that retries as it is told to."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.history import Acknowledged, Answered, Failed, Recorder

CONTENTS = list(range(1, 21))
USERS = 40
SLATE = 5
PATIENCE_S = 90.0
"""How long a backend tries to get rid of an event."""
_RETRY_S = 0.2
_ANSWER_S = 15.0
_RESENT = 0.05
"""Share of batches that are sent once more although they were acknowledged: a client whose answer got lost does so."""
_FURTHER_KINDS = ("view", "like")


def ask_for_ranking(
    http: httpx.Client, url: str, client: str, user_id: str, history: Recorder
) -> dict[str, Any] | None:
    """Ask for a ranking, write the answer down, and return it; None when there was none."""
    began = time.monotonic()
    body = {"user_id": user_id, "candidates": CONTENTS, "size": SLATE}
    try:
        answer = http.post(f"{url}/api/v1/rank", json=body)
    except httpx.TransportError:
        history.add(Answered(client, "rank", 0, _since(began)))
        return None
    if answer.status_code != 200:
        history.add(Answered(client, "rank", answer.status_code, _since(began)))
        return None
    shown: dict[str, Any] = answer.json()
    degraded = tuple(shown["degraded"])
    history.add(Answered(client, "rank", 200, _since(began), shown["snapshot_version"], degraded))
    return shown


@dataclass
class Backend:
    """One client: asks for rankings, posts what its users did, and posts again what was not acknowledged.

    What it does follows from ``name`` and ``seed`` and the answers alone.
    """

    name: str
    seed: int
    ingest_url: str
    serving_url: str
    history: Recorder
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=_ANSWER_S))

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.name}")
        self._events = 0

    def play(self, rounds: int) -> None:
        """Let so many users be shown something and act; returns once everything is acknowledged."""
        for _ in range(rounds):
            user_id = f"user-{self._random.randrange(USERS)}"
            shown = ask_for_ranking(self.http, self.serving_url, self.name, user_id, self.history)
            events = self._reaction(user_id, shown)
            self.deliver(events)
            if self._random.random() < _RESENT:
                self.deliver(events)

    def organic(self, count: int) -> list[dict[str, Any]]:
        """Return clicks of users who came by another way than a ranking."""
        return [
            self._event("click", f"user-{self._random.randrange(USERS)}", self._random.choice(CONTENTS), {})
            for _ in range(count)
        ]

    def deliver(self, events: list[dict[str, Any]]) -> None:
        """Post events until all of them are acknowledged.

        Raises
        ------
        AssertionError
            They were refused for good, or not acknowledged in 90 s.
        """
        waiting = {event["event_id"]: event for event in events}
        deadline = time.monotonic() + PATIENCE_S
        while waiting:
            for event_id in self._post(list(waiting.values())):
                waiting.pop(event_id, None)
            if waiting:
                assert time.monotonic() < deadline, f"not acknowledged in {PATIENCE_S:.0f} s: {list(waiting)}"
                time.sleep(_RETRY_S)

    def _post(self, events: list[dict[str, Any]]) -> list[str]:
        """Post once and return the ids that were acknowledged."""
        began = time.monotonic()
        try:
            answer = self.http.post(f"{self.ingest_url}/api/v1/events", json={"events": events})
        except httpx.TransportError:
            self.history.add(Answered(self.name, "events", 0, _since(began)))
            return []
        assert answer.status_code in (202, 503), f"{answer.status_code} {answer.text}"
        body = answer.json()
        accepted = answer.status_code == 202
        named = () if accepted else tuple(body["event_ids"])
        acknowledged = body["event_ids"] if accepted else body["acknowledged"]
        self.history.add(Answered(self.name, "events", answer.status_code, _since(began), named=named))
        if acknowledged:
            self.history.add(Acknowledged(tuple(acknowledged)))
        return list(acknowledged)

    def _reaction(self, user_id: str, shown: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Return one to three interactions: a click, and sometimes more of the same content."""
        slate = [position["content_id"] for position in shown["slate"]] if shown else CONTENTS
        content_id = self._random.choice(slate)
        kinds = ["click", *self._random.sample(_FURTHER_KINDS, self._random.choice((0, 0, 1, 2)))]
        named = {"impression_id": shown["impression_id"]} if shown and self._random.random() < 0.9 else {}
        return [self._event(kind, user_id, content_id, named) for kind in kinds]

    def _event(self, kind: str, user_id: str, content_id: int, named: dict[str, Any]) -> dict[str, Any]:
        self._events += 1
        event_id = f"{self.name}-{self.seed}-{self._events}"
        dwell = {"dwell_ms": self._random.randrange(1_000, 60_000)} if kind == "view" else {}
        event = {"type": "interaction", "event_id": event_id, "kind": kind, "user_id": user_id}
        return {**event, "content_id": content_id, **named, **dwell}


@contextmanager
def playing(backends: list[Backend], pace_s: float) -> Iterator[None]:
    """Let backends play beside the block, a round each ``pace_s`` at most; at its end everything is acknowledged.

    Raises
    ------
    AssertionError
        When one of them could not deliver.
    """
    stop = threading.Event()
    broken: list[Exception] = []

    def play(backend: Backend) -> None:
        try:
            while not stop.wait(pace_s):
                backend.play(1)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            backend.history.add(Failed(f"{backend.name}: {error!r}"))
            broken.append(error)

    threads = [threading.Thread(target=play, args=(backend,), daemon=True) for backend in backends]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for backend in backends:
            backend.http.close()
    if broken:
        raise broken[0]


def _since(began: float) -> float:
    return round(time.monotonic() - began, 4)
