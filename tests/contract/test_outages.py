"""What the adapters say when a real server is paused, killed, or comes back: within their deadline, and no more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from infra.kafka_server import KafkaServer
from infra.mariadb_server import MariadbServer
from infra.migrations import upgrade
from infra.redis_server import RedisServer
from infra.run_state import RunState
from infra.server import LocalServer
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.ports import StoredContent, TopicPartition, TopicSpec, Visit
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from libs.errors import StoreUnavailable
from tests.contract.event_log_stand import outgoing, read
from tests.contract.test_snapshot_store import snapshot

pytestmark = pytest.mark.stack

ServerT = TypeVar("ServerT", bound=LocalServer)
START = Callable[[type[ServerT]], ServerT]
# A bound against hanging, not a measurement: the machine may be busy.
PATIENCE_S = 10.0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[START[LocalServer]]:
    """Start a server that only this test uses."""
    started: list[LocalServer] = []

    def run(kind: type[LocalServer]) -> LocalServer:
        server = kind(tmp_path / kind.name, RunState(tmp_path))
        started.append(server)
        server.start()
        return server

    yield run
    for server in started:
        server.resume()
        server.kill()


async def unavailable(question: Callable[[], Awaitable[object]]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await question()
    assert time.monotonic() - began < PATIENCE_S


async def test_redis_paused_killed_and_back_empty(start: START[RedisServer]) -> None:
    server = start(RedisServer)
    snapshots, histories = RedisSnapshotStore(server.address, "m"), RedisUserHistory(server.address)
    await snapshots.publish(*snapshot(20, epoch=4))
    await histories.append([("ann", Visit("e", 7, 1))])
    await histories.begin_generation("g1")

    server.pause()
    await unavailable(snapshots.current)
    await unavailable(lambda: snapshots.wait(20, timeout_s=60))
    await unavailable(lambda: histories.recent("ann", 10))
    await unavailable(lambda: histories.append([("ann", Visit("f", 8, 2))]))
    server.resume()
    assert await snapshots.current() == snapshot(20, epoch=4)[0]

    server.kill()
    await unavailable(snapshots.current)
    await unavailable(lambda: snapshots.publish(*snapshot(30, epoch=4)))
    await unavailable(histories.generation)

    server.start()
    assert await histories.generation() is None
    assert await histories.recent("ann", 10) == []
    assert await snapshots.current() is None
    await snapshots.publish(*snapshot(20, epoch=4))  # the pointer is gone: the same version is welcome
    assert await snapshots.load(20) == snapshot(20, epoch=4)
    assert await snapshots.claim_epoch(at_least=5) == 5
    await histories.append([("ann", Visit("e", 7, 1))])
    assert len(await histories.recent("ann", 10)) == 1
    await snapshots.close()
    await histories.close()


async def test_a_broker_killed_under_load_keeps_what_it_acknowledged(start: START[KafkaServer]) -> None:
    server = start(KafkaServer)
    admin, producer = KafkaTopicAdmin(server.address), KafkaProducer(server.address)
    await admin.ensure([TopicSpec("t", 2)])
    await producer.start()
    reader = KafkaPartitionReader(server.address, "g")
    await reader.start({TopicPartition("t", number): -1 for number in range(2)})
    assert all(await producer.append([outgoing("t", number) for number in range(50)], timeout_s=20))
    await read(reader, 50)

    server.kill()
    began = time.monotonic()
    assert not any(await producer.append([outgoing("t", number) for number in range(50, 100)], timeout_s=0.5))
    assert time.monotonic() - began < PATIENCE_S
    assert producer.pending == 50
    assert await reader.poll(10, timeout_ms=50) == []
    assert not await reader.commit({TopicPartition("t", 0): 1})

    server.start()
    assert all(await producer.append([outgoing("t", number) for number in range(100, 150)], timeout_s=60))
    rest = await read(reader, 100)
    assert sorted(int(record.value or b"") for record in rest) == list(range(50, 150))
    assert producer.pending == 0
    await reader.stop()
    await producer.stop()
    await admin.close()


async def test_without_a_broker_nothing_starts_and_nothing_hangs() -> None:
    nowhere = "127.0.0.1:1"
    producer, admin = KafkaProducer(nowhere), KafkaTopicAdmin(nowhere)
    await unavailable(producer.start)
    await unavailable(admin.cluster_id)
    await unavailable(lambda: KafkaPartitionReader(nowhere, "g").start({TopicPartition("t", 0): -1}))
    assert await producer.append([outgoing("t", 1)], timeout_s=1) == [False]
    await producer.stop()


async def test_a_full_producer_answers_at_once(start: START[KafkaServer]) -> None:
    server = start(KafkaServer)
    admin, producer = KafkaTopicAdmin(server.address), KafkaProducer(server.address, max_pending_bytes=20)
    await admin.ensure([TopicSpec("t", 1)])
    await producer.start()
    server.pause()
    assert not any(await producer.append([outgoing("t", number) for number in range(100, 110)], timeout_s=0.2))
    assert await producer.append([outgoing("t", 1)], timeout_s=600) == [False]
    server.resume()
    await producer.stop()
    assert producer.pending == 0
    await admin.close()


async def test_a_paused_database_is_unavailable_and_then_there_again(start: START[MariadbServer]) -> None:
    server = start(MariadbServer)
    await asyncio.to_thread(upgrade, server.address)
    store = SqlContentStore(server.address, 3)
    await store.put(StoredContent(1, title="a"))
    server.pause()
    await unavailable(lambda: store.get([1]))
    await unavailable(lambda: store.user_exists("5f2b1f3e-8a55-4f4e-9d0a-0a8f6d2b4b11"))
    server.resume()
    assert await store.get([1]) == [StoredContent(1, title="a")]
    server.kill()
    await unavailable(lambda: store.get([1]))
    server.start()
    assert await store.get([1]) == [StoredContent(1, title="a")]
    await store.close()
