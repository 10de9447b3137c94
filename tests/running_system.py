"""The three services on a stack of their own, driven as a backend would drive them."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceName, ServiceProcess
from libs.adapters.ports import SnapshotMeta, Visit
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory

Answer = TypeVar("Answer")
DEADLINE_S = 40.0
POLL_S = 0.05
START_S = 120.0  # seven on a quiet machine with two cores, most of it for reading torch
SERVICES: tuple[ServiceName, ...] = ("ingest", "learner", "serving")


def eventually(ask: Callable[[], Answer | None], what: str, deadline_s: float = DEADLINE_S) -> Answer:
    """Return the first truthy answer; fail with ``what`` when none came in time."""
    deadline = time.monotonic() + deadline_s
    while True:
        if answer := ask():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {deadline_s:.0f} s for: {what}")
        time.sleep(POLL_S)


@dataclass
class RunningSystem:
    """HTTP clients of ingest and serving, and readings of the services' metrics."""

    stack: LocalStack
    ingest: ServiceProcess
    learner: ServiceProcess
    serving: ServiceProcess
    checkpoints: Path
    environments: Mapping[ServiceName, Mapping[str, str]]
    further: list[ServiceProcess] = field(default_factory=list)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=15))
    acknowledged: list[str] = field(default_factory=list)

    def another(self, name: ServiceName, **environment: str) -> ServiceProcess:
        """Return one more process of a service, not started yet, on a port of its own; it ends with the system."""
        folder = self.checkpoints.with_name(f"further-{len(self.further)}")
        self.further.append(ServiceProcess(name, {**self.environments[name], **environment}, folder))
        return self.further[-1]

    def put_content(self, content_id: int, **fields: Any) -> None:
        """Put one content into the catalogue."""
        answer = self.http.put(f"{self.ingest.url}/api/v1/contents/{content_id}", json={"title": "", **fields})
        assert answer.status_code == 200, answer.text

    def rank(self, user_id: str, candidates: list[int], size: int = 6, **fields: Any) -> dict[str, Any]:
        """Return serving's answer."""
        body = {"user_id": user_id, "candidates": candidates, "size": size, **fields}
        answer = self.http.post(f"{self.serving.url}/api/v1/rank", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(self, *events: dict[str, Any]) -> None:
        """Post events under ids of our own and remember those that were acknowledged."""
        named = [{"type": "interaction", "event_id": uuid4().hex, **event} for event in events]
        answer = self.http.post(f"{self.ingest.url}/api/v1/events", json={"events": named})
        assert answer.status_code == 202, answer.text
        self.acknowledged += answer.json()["event_ids"]

    def click(self, user_id: str, content_id: int, impression_id: str) -> None:
        """Post one click."""
        self.post({"kind": "click", "user_id": user_id, "content_id": content_id, "impression_id": impression_id})

    def metric(self, url: str, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels."""
        families = text_string_to_metric_families(self.http.get(f"{url}/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def learner_metric(self, name: str, **labels: str) -> float:
        """Return a metric of the learner."""
        return self.metric(self.learner.url, f"moard_learner_{name}", **labels)

    def snapshot_version(self) -> float:
        """Return the version that serving ranks with."""
        return self.metric(self.serving.url, "moard_serving_snapshot_version")

    def wait_for_newer_snapshot(self, than: float) -> float:
        """Return serving's version once it is above ``than``."""
        return eventually(
            lambda: version if (version := self.snapshot_version()) > than else None, f"a snapshot newer than {than}"
        )

    def wait_until_learned(self) -> None:
        """Return once the learner has read everything that was appended."""
        eventually(lambda: self.learner_metric("consumer_lag_records") == 0, "the learner's lag to be 0")

    def flush_redis(self) -> None:
        """Take everything out of Redis, as an empty restart does."""
        with self._redis() as redis:
            redis.flushall()

    def stored_version(self) -> int:
        """Return the version of the snapshot in Redis, 0 when there is none."""
        meta = asyncio.run(self._ask_snapshots())
        return meta.version if meta else 0

    def history(self, user_id: str) -> list[int]:
        """Return the content ids of a user's history in Redis, newest first."""
        return [visit.content_id for visit in asyncio.run(self._ask_history(user_id))]

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.addresses.redis_url)

    async def _ask_snapshots(self) -> SnapshotMeta | None:
        store = RedisSnapshotStore(self.stack.addresses.redis_url, "moard")
        try:
            return await store.current()
        finally:
            await store.close()

    async def _ask_history(self, user_id: str) -> list[Visit]:
        histories = RedisUserHistory(self.stack.addresses.redis_url)
        try:
            return await histories.recent(user_id, 30)
        finally:
            await histories.close()


@contextmanager
def running_system(
    stack: LocalStack,
    folder: Path,
    environment: Mapping[str, str],
    own: Mapping[ServiceName, Mapping[str, str]] | None = None,
) -> Iterator[RunningSystem]:
    """Start the three services side by side, their state in ``folder``; stop those that still run at the end.

    ``own`` holds what a single service is told beyond, or instead of, ``environment``.
    """
    upgrade(stack.addresses.database_url)
    shared = {
        **stack.addresses.environment(),
        "MOARD_LEARNER_CHECKPOINT_PATH": str(folder / "checkpoints"),
        "MOARD_STATE_PATH": str(folder / "state"),
        **environment,
    }
    environments = {name: {**shared, **(own or {}).get(name, {})} for name in SERVICES}
    started = {name: ServiceProcess(name, environments[name], folder / "services") for name in SERVICES}
    further: list[ServiceProcess] = []
    try:
        for service in started.values():
            service.start()
        for service in started.values():
            service.wait_ready(START_S)
        system = RunningSystem(
            stack=stack,
            ingest=started["ingest"],
            learner=started["learner"],
            serving=started["serving"],
            checkpoints=folder / "checkpoints",
            environments=environments,
            further=further,
        )
        with system.http:
            yield system
    finally:
        for service in (*further, *reversed(started.values())):
            service.stop()
