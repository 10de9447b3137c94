"""Model administration on real Redis and MariaDB, with two serving workers."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from sqlalchemy import make_url

from infra.local import Addresses, LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.rl.snapshot import encode as encode_snapshot
from tests.contract.catalogue_stand import create_legacy_tables, execute
from tests.integration.test_serving import VECTOR, eventually, vector
from tests.snapshots import random_snapshot
from tests.unit.serving.world import meta_of

pytestmark = pytest.mark.stack

IDS = [1, 2, 3]
BULK = {"user_embedding": vector(1), "content_embeddings": [vector(seed) for seed in range(2, 12)]}


@dataclass
class Workers:
    """Serving processes that share a database and a model line."""

    addresses: Addresses
    model: str
    processes: list[ServiceProcess]
    http: httpx.Client

    def call(self, method: str, path: str, status: int = 200, worker: int = 0, **options: Any) -> Any:
        answer = self.http.request(method, f"{self.processes[worker].url}/api/v1/{path}", **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def versions(self) -> set[int]:
        """Return what the workers rank with."""
        body = {"user_id": "ann", "candidates": IDS}
        return {self.call("POST", "rank", worker=i, json=body)["snapshot_version"] for i in range(len(self.processes))}

    def scores(self) -> list[bytes]:
        """Return each worker's answer to one bulk call."""
        calls = [self.http.post(f"{process.url}/api/v1/predict/bulk", json=BULK) for process in self.processes]
        return [answer.raise_for_status().content for answer in calls]

    def publish(self, version: int) -> None:
        async def published() -> None:
            store = RedisSnapshotStore(self.addresses.redis_url, self.model)
            snapshot = random_snapshot(IDS, VECTOR, seed=version)
            blob = encode_snapshot(snapshot)
            await store.publish(meta_of(snapshot, blob, version), blob)
            await store.close()

        asyncio.run(published())

    def rank_with(self, version: int) -> None:
        """Return when every worker ranks with this version."""
        eventually(lambda: self.versions() == {version}, f"all workers to rank with {version}")


@pytest.fixture
def start(services: Callable[..., ServiceProcess], tmp_path: Path) -> Iterator[Callable[[Addresses], Workers]]:
    """Start two workers with a fresh database that holds the legacy tables."""
    with httpx.Client(timeout=10) as http:

        def started(addresses: Addresses) -> Workers:
            model, database = f"test-{uuid4().hex[:8]}", f"test_{uuid4().hex}"
            asyncio.run(execute(addresses.database_url, (f"CREATE DATABASE {database}", {})))
            url = make_url(addresses.database_url).set(database=database).render_as_string(hide_password=False)
            asyncio.run(create_legacy_tables(url))
            upgrade(url)
            environment = addresses.environment() | {
                "DATABASE_URL": url,
                "MOARD_MODEL_NAME": model,
                "MOARD_VECTOR_SIZE": str(VECTOR),
                "MOARD_STATE_PATH": str(tmp_path / model),
            }
            return Workers(addresses, model, [services("serving", environment) for _ in range(2)], http)

        yield started


def test_every_legacy_row_of_model_administration(stack: Addresses, start: Callable[..., Workers]) -> None:
    workers = start(stack)
    call, user = workers.call, str(uuid4())
    listed = call("GET", "model/list")
    assert (listed["models"], listed["current_model"]) == (["latest"], "latest")
    workers.publish(1_000)
    workers.rank_with(1_000)
    call("POST", "snapshots/1000/keep", params={"name": "friday.1"})

    assert call("POST", "model/change", params={"model_name": "friday.1"})["model_name"] == "friday.1"
    listed = call("GET", "model/list")
    assert (listed["models"], listed["current_model"]) == (["latest", "friday.1"], "friday.1")
    database = workers.processes[0]._environment["DATABASE_URL"]
    content = "INSERT INTO contents (id, title) VALUES (7, 'a')"
    asyncio.run(execute(database, (content, {}), ("INSERT INTO users VALUES (1, :u)", {"u": bytes.fromhex("0" * 32)})))
    top = {"user_id": "00000000-0000-0000-0000-000000000000", "content_ids": [7]}
    assert call("POST", "predict/top-contents", json=top)["model_name"] == "friday.1"

    call("POST", "model/change", 404, params={"model_name": user})
    call("POST", "model/change", 422)
    for name in ("", "/etc/passwd", "../../x", "a/b"):
        call("POST", "model/change", 422, params={"model_name": name})
    assert "pinned" in call("DELETE", "model/friday.1", 409)["detail"]
    call("DELETE", "model/latest", 409)
    call("DELETE", f"model/{user}", 404)
    for name in ("%2E%2E%2Fx", "models/%2E%2E/%2E%2E/x", "%00"):
        assert 400 <= workers.http.delete(f"{workers.processes[0].url}/api/v1/model/{name}").status_code < 500

    assert call("POST", "model/change", params={"model_name": "latest"})["model_name"] == "latest"
    assert call("DELETE", "model/models/friday.1")["deleted_path"] == "models/friday.1"
    assert call("GET", "model/list")["models"] == ["latest"]
    actions = [entry["action"] for entry in call("GET", "snapshots/changes")["changes"]]
    assert actions == ["delete", "unpin", "pin", "keep"]


def test_a_change_reaches_every_worker_and_a_rollback_is_bit_equal(
    stack: Addresses, start: Callable[..., Workers]
) -> None:
    workers = start(stack)
    answers: dict[int, list[bytes]] = {}
    for version in (1_000, 2_000):
        workers.publish(version)
        workers.rank_with(version)
        answers[version] = workers.scores()
        assert len(set(answers[version])) == 1
    assert answers[1_000] != answers[2_000]

    for turn in range(4):
        worker = turn % 2
        workers.call("POST", "snapshots/1000/pin", worker=worker)
        workers.rank_with(1_000)
        assert workers.scores() == answers[1_000]
        workers.call("DELETE", "snapshots/pin", worker=worker)
        workers.rank_with(2_000)
        assert workers.scores() == answers[2_000]

    workers.call("POST", "snapshots/1000/pin")
    workers.publish(3_000)
    lineage = eventually(lambda: _with_newest(workers, 3_000), "the third snapshot in the lineage")
    assert workers.versions() == {1_000}
    flags = {line["version"]: (line["names"], line["current"], line["pinned"], line["served"]) for line in lineage}
    assert flags == {
        3_000: ([], True, False, False),
        2_000: ([], False, False, False),
        1_000: (["snapshot-1000"], False, True, True),
    }


def _with_newest(workers: Workers, version: int) -> Any:
    lines = workers.call("GET", "snapshots")["snapshots"]
    return lines if lines[0]["version"] == version else None


def test_a_pin_outlives_redis_and_the_workers(
    fresh_stack: Callable[..., LocalStack], start: Callable[..., Workers]
) -> None:
    own = fresh_stack()
    workers = start(own.addresses)
    for version in (1_000, 2_000):
        workers.publish(version)
        workers.rank_with(version)
    workers.call("POST", "snapshots/1000/pin")
    workers.rank_with(1_000)
    pinned = workers.scores()

    with redis.Redis.from_url(own.addresses.redis_url) as client:
        client.flushall()
        eventually(lambda: client.get(f"snap:{workers.model}:pin"), "the pin to be told again")
    workers.publish(3_000)
    eventually(lambda: _with_newest(workers, 3_000), "the learner's next snapshot")
    assert workers.scores() == pinned

    # A worker that starts now has the blob from SQL, or from its own disk.
    workers.processes[0].kill()
    workers.processes[0].start()
    workers.processes[0].wait_ready()
    assert workers.scores() == pinned

    own.redis.kill()
    assert workers.versions() == {1_000}
    # Without Redis every worker asks SQL.
    workers.call("POST", "model/change", params={"model_name": "snapshot-1000"})
    own.redis.start()
    workers.publish(4_000)
    workers.call("DELETE", "snapshots/pin")
    workers.rank_with(4_000)
