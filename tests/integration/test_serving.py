"""Serving as a process on real Kafka, Redis and MariaDB."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
import redis
from sqlalchemy import make_url

from infra.local import Addresses, LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer
from libs.adapters.ports import Outgoing, Record, SnapshotMeta, TopicPartition, Visit
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from libs.events.codec import decode_content, decode_event, encode
from libs.events.schema import Content, Impression
from libs.events.topics import CONTENTS, EVENTS, content_key, partition_of, user_key
from libs.rl.snapshot import encode as encode_snapshot
from tests.contract.catalogue_stand import create_legacy_tables, execute
from tests.snapshots import random_snapshot
from tests.unit.serving.world import meta_of

pytestmark = pytest.mark.stack

VECTOR = 16
DEADLINE_S = 20.0


@dataclass
class Running:
    """Serving with a database and a model line of its own."""

    process: ServiceProcess
    addresses: Addresses
    database_url: str
    model: str
    http: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(f"{self.process.url}/api/v1/{path}", json=body)

    def rank(self, user_id: str, candidates: list[int], **fields: Any) -> Any:
        answer = self.post("rank", user_id=user_id, candidates=candidates, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def start(services: Callable[..., ServiceProcess], tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start serving on a stack, with a fresh database that holds the legacy tables."""
    clients = []

    def started(addresses: Addresses, **environment: str) -> Running:
        model, database = f"test-{uuid4().hex[:8]}", f"test_{uuid4().hex}"
        asyncio.run(execute(addresses.database_url, (f"CREATE DATABASE {database}", {})))
        url = make_url(addresses.database_url).set(database=database).render_as_string(hide_password=False)
        asyncio.run(create_legacy_tables(url))
        upgrade(url)
        settings = {
            "DATABASE_URL": url,
            "MOARD_MODEL_NAME": model,
            "MOARD_VECTOR_SIZE": str(VECTOR),
            "MOARD_STATE_PATH": str(tmp_path / model),
        }
        process = services("serving", addresses.environment() | settings | environment)
        clients.append(httpx.Client(timeout=10))
        return Running(process, addresses, url, model, clients[-1])

    yield started
    for client in clients:
        client.close()


def vector(seed: int) -> list[float]:
    return [float(value) for value in np.random.default_rng(seed).normal(size=VECTOR).astype(np.float32)]


def fresh_ids(count: int) -> list[int]:
    """Ids that no other test of the shared stack uses."""
    first = time.time_ns() // 1_000
    return list(range(first, first + count))


def eventually(ask: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := ask()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)
    return found


async def publish(running: Running, version: int, content_ids: list[int]) -> SnapshotMeta:
    snapshot = random_snapshot(content_ids, VECTOR, seed=version)
    blob = encode_snapshot(snapshot)
    meta = meta_of(snapshot, blob, version)
    store = RedisSnapshotStore(running.addresses.redis_url, running.model)
    await store.publish(meta, blob)
    await store.close()
    return meta


async def put(running: Running, *contents: Content) -> None:
    producer = KafkaProducer(running.addresses.kafka_bootstrap_servers)
    await producer.start()
    records = [Outgoing(CONTENTS, content_key(content.content_id), encode(content)) for content in contents]
    assert all(await producer.append(records, 10))
    await producer.stop()


@contextlib.asynccontextmanager
async def reading(running: Running, *partitions: TopicPartition) -> AsyncIterator[Callable[[], Any]]:
    reader = KafkaPartitionReader(running.addresses.kafka_bootstrap_servers, "test")
    await reader.start(dict.fromkeys(partitions, -1))
    yield lambda: reader.poll(500, 500)
    await reader.stop()


async def find(running: Running, tp: TopicPartition, wanted: Callable[[Record], bool], count: int = 1) -> list[Record]:
    """Read a partition from its beginning until so many records are found."""
    found: list[Record] = []
    async with reading(running, tp) as poll, asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found += [record for record in await poll() if wanted(record)]
    return found


def partition_of_user(user_id: str) -> TopicPartition:
    return TopicPartition(EVENTS, partition_of(user_key(user_id), StackSettings(_env_file=None).events_partitions))


def test_a_legacy_request_reads_mariadb_publishes_contents_and_logs_an_impression(
    stack: Addresses, start: Callable[..., Running]
) -> None:
    running, user, ids = start(stack), str(uuid4()), fresh_ids(9)
    rows = [
        (
            "INSERT INTO contents (id, title, description, embedding) VALUES (:id, :title, :text, :embedding)",
            {
                "id": i,
                "title": f"제목 {i}",
                "text": None,
                "embedding": json.dumps(vector(i)) if i != ids[0] else "oops",
            },
        )
        for i in ids[:8]
    ]
    known = ("INSERT INTO users VALUES (1, :octets)", {"octets": UUID(user).bytes})
    asyncio.run(execute(running.database_url, *rows, known))

    answer = running.post("predict/top-contents", user_id=user, content_ids=[*ids, ids[1], -1]).json()
    assert len(answer["content_ids"]) == 6
    assert set(answer["content_ids"]) <= set(ids[:8])
    assert (answer["user_embedding"], answer["degraded"]) == ([0.0] * VECTOR, [])
    assert running.post("predict/top-contents", user_id=str(uuid4()), content_ids=ids).status_code == 404
    assert running.post("predict/top-contents", user_id=user, content_ids=[ids[8]]).status_code == 404

    keys = {content_key(i) for i in ids}
    records = asyncio.run(find(running, TopicPartition(CONTENTS, 0), lambda r: r.key in keys, count=8))
    contents = {content.content_id: content for content in (decode_content(record.value) for record in records)}
    assert contents.keys() == set(ids[:8])
    assert contents[ids[0]].embedding is None
    assert list(contents[ids[1]].embedding or ()) == pytest.approx(vector(ids[1]))

    (record,) = asyncio.run(find(running, partition_of_user(user), lambda r: r.key == user_key(user)))
    logged = decode_event(record.value)
    assert isinstance(logged, Impression)
    assert (logged.event_id, list(logged.slate)) == (answer["impression_id"], answer["content_ids"])


def test_contents_and_snapshots_are_taken_in_while_it_runs(stack: Addresses, start: Callable[..., Running]) -> None:
    running, ids = start(stack, MOARD_SERVING_GREEDY="1"), fresh_ids(3)
    asyncio.run(publish(running, 1_000, ids[:1]))
    eventually(lambda: running.rank("ann", ids)["snapshot_version"] == 1_000, "the snapshot")
    before = {p["content_id"]: p["score"] for p in running.rank("ann", ids)["slate"]}
    assert before[ids[1]] == pytest.approx(before[ids[2]], abs=1e-5)  # nothing is known of either
    hidden = Content(content_id=ids[2], hidden=True)
    asyncio.run(put(running, Content(content_id=ids[1], embedding=tuple(vector(1))), hidden))
    eventually(lambda: len(running.rank("ann", ids)["slate"]) == 2, "the hidden content to go")
    after = {p["content_id"]: p["score"] for p in running.rank("ann", ids)["slate"]}
    assert after[ids[1]] != pytest.approx(before[ids[1]], abs=1e-5)


def test_a_click_in_redis_is_in_the_next_ranking(stack: Addresses, start: Callable[..., Running]) -> None:
    running, user, ids = start(stack), str(uuid4()), fresh_ids(2)

    async def click() -> None:
        history = RedisUserHistory(stack.redis_url)
        await history.append([(user, Visit("e1", ids[0], time.time_ns() // 1_000_000))])
        await history.close()

    asyncio.run(put(running, *(Content(content_id=i, embedding=tuple(vector(i))) for i in ids)))
    eventually(lambda: metric(running, "moard_serving_contents") >= 2, "the contents")
    asyncio.run(click())
    answer = running.post("predict/top-contents", user_id=user, content_ids=ids).json()
    assert answer["user_embedding"] == pytest.approx(vector(ids[0]), abs=1e-3)


def test_candidates_are_proposed_and_explained(
    fresh_stack: Callable[..., LocalStack], start: Callable[..., Running]
) -> None:
    """On a stack of its own: what is popular or new elsewhere would be proposed too."""
    own = fresh_stack()
    running, ids = start(own.addresses, MOARD_SERVING_POPULAR_REFRESH_MS="50"), list(range(1, 31))

    async def clicks() -> None:
        history = RedisUserHistory(own.addresses.redis_url)
        now_ms = time.time_ns() // 1_000_000
        others = [(f"user-{n}", Visit(f"p{n}", ids[5], now_ms)) for n in range(3)]
        await history.append([("ann", Visit("e1", ids[0], now_ms)), *others])
        await history.close()

    def propose(**fields: Any) -> Any:
        answer = running.post("rank", user_id="ann", size=29, explain=True, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sources(found: Any) -> dict[int, str]:
        return {position["content_id"]: position["explanation"]["source"] for position in found["slate"]}

    asyncio.run(put(running, *(Content(content_id=i, embedding=tuple(vector(i))) for i in ids)))
    asyncio.run(publish(running, 1_000, ids))
    asyncio.run(clicks())
    eventually(lambda: propose()["snapshot_version"] == 1_000, "the snapshot")
    eventually(lambda: sources(propose()).get(ids[5]) == "popular", "what others clicked to be popular")
    found = propose(exclude_ids=ids[20:])
    assert sources(found).keys() == set(ids[1:20])  # without what ann has had, and what was excluded
    every = {"nearest", "popular", "new", "random"}  # what is drawn may be what the others name, too, now and then
    eventually(lambda: set(sources(propose(exclude_ids=ids[20:])).values()) == every, "each source to have its part")
    for position in found["slate"]:
        reasons = position["explanation"]
        assert reasons["choice_probability"] * reasons["advantage"] == pytest.approx(position["score"], abs=1e-5)
        assert [neighbour["content_id"] for neighbour in reasons["nearest_history"]] == [ids[0]]

    asyncio.run(put(running, Content(content_id=ids[5], hidden=True)))
    eventually(lambda: ids[5] not in sources(propose()), "the hidden content to go")
    (record,) = asyncio.run(
        find(running, partition_of_user("ann"), lambda r: found["impression_id"].encode() in (r.value or b""))
    )
    logged = decode_event(record.value)
    assert isinstance(logged, Impression)
    assert set(logged.candidates) == set(ids[1:20])


def test_redis_emptied_killed_and_back(fresh_stack: Callable[..., LocalStack], start: Callable[..., Running]) -> None:
    own = fresh_stack()
    running, ids = start(own.addresses), fresh_ids(3)
    versions: list[int] = []

    def rank_on(until: Callable[[Any], bool], what: str) -> None:
        def once() -> bool:
            answer = running.rank("ann", ids)  # asserts 200
            versions.append(answer["snapshot_version"])
            return until(answer)

        eventually(once, what)

    asyncio.run(publish(running, 1_000, ids))
    rank_on(lambda answer: answer["snapshot_version"] == 1_000, "the first snapshot")
    with redis.Redis.from_url(own.addresses.redis_url) as client:

        def degraded_by_a_pause() -> bool:
            client.client_pause(1_000)  # far longer than a history may take, shorter than a Redis that is away
            return "history" in running.rank("ann", ids)["degraded"]

        eventually(degraded_by_a_pause, "a ranking that does not wait for a late Redis")
        client.flushall()
    rank_on(lambda _: len(versions) > 50, "rankings on an empty Redis")
    own.redis.kill()
    rank_on(lambda answer: "history" in answer["degraded"], "the outage to be named")
    rank_on(lambda _: len(versions) > 100, "rankings without Redis")
    own.redis.start()
    rank_on(lambda answer: answer["degraded"] == [], "Redis to be used again")
    asyncio.run(publish(running, 2_000, ids))
    rank_on(lambda answer: answer["snapshot_version"] == 2_000, "the next snapshot")
    first = versions.index(1_000)
    assert set(versions[first:]) == {1_000, 2_000}
    assert versions[first:] == sorted(versions[first:])

    # A worker that starts without Redis ranks with the last good snapshot from its disk.
    assert running.process.stop() == 0
    own.redis.kill()
    running.process.start()
    running.process.wait_ready()
    assert running.rank("ann", ids)["snapshot_version"] in (1_000, 2_000)


def test_sigterm_drains_and_no_torch_was_ever_loaded(stack: Addresses, start: Callable[..., Running]) -> None:
    running, user = start(stack), str(uuid4())
    maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "torch" not in maps
    impressions = {running.rank(user, [1, 2, 3])["impression_id"] for _ in range(20)}
    assert running.process.stop() == 0
    records = asyncio.run(find(running, partition_of_user(user), lambda r: r.key == user_key(user), count=20))
    assert {decode_event(record.value).event_id for record in records} == impressions


def metric(running: Running, name: str) -> float:
    text = running.http.get(f"{running.process.url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))
