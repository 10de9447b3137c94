"""Each port's adapters, side by side: the in-memory twin and the real thing on the shared stack."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from libs.adapters import memory
from libs.adapters.event_log import KafkaGroupReader, KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from libs.adapters.ports import SnapshotStore, UserHistory
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from tests.contract.event_log_stand import EventLog

REAL = pytest.param("real", marks=pytest.mark.stack)


@pytest.fixture(params=["memory", REAL])
async def event_log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    async with AsyncExitStack() as closing:
        if request.param == "memory":
            log = memory.MemoryLog()
            yield EventLog(
                open_producer=lambda: memory.MemoryProducer(log),
                open_reader=lambda group: memory.MemoryPartitionReader(log, group),
                open_group=lambda group, topic: memory.MemoryGroupReader(log, group, topic),
                admin=memory.MemoryTopicAdmin(log),
                closing=closing,
            )
            return
        stack: Any = request.getfixturevalue("stack")
        servers = stack.kafka_bootstrap_servers
        admin = KafkaTopicAdmin(servers)
        closing.push_async_callback(admin.close)
        yield EventLog(
            open_producer=lambda: KafkaProducer(servers),
            open_reader=lambda group: KafkaPartitionReader(servers, group),
            open_group=lambda group, topic: KafkaGroupReader(servers, group, topic),
            admin=admin,
            closing=closing,
        )


@pytest.fixture(params=["memory", REAL])
async def snapshots(request: pytest.FixtureRequest) -> AsyncIterator[SnapshotStore]:
    if request.param == "memory":
        yield memory.MemorySnapshotStore()
        return
    store = RedisSnapshotStore(request.getfixturevalue("stack").redis_url, f"test-{uuid.uuid4().hex}")
    yield store
    await store.close()


@pytest.fixture(params=["memory", REAL])
async def histories(request: pytest.FixtureRequest) -> AsyncIterator[UserHistory]:
    """A store that keeps five visits for each user."""
    if request.param == "memory":
        yield memory.MemoryUserHistory(cap=5)
        return
    store = RedisUserHistory(request.getfixturevalue("stack").redis_url, cap=5, prefix=f"test-{uuid.uuid4().hex}")
    yield store
    await store.close()
