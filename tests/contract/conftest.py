"""Each port's adapters, side by side: the in-memory twin and the real thing on the shared stack."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from infra.migrations import upgrade
from libs.adapters import memory
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import (
    KafkaGroupOffsets,
    KafkaGroupReader,
    KafkaPartitionReader,
    KafkaProducer,
    KafkaTopicAdmin,
)
from libs.adapters.legacy_log import SqlLegacyLog
from libs.adapters.model_ports import ServedSnapshots
from libs.adapters.ports import UserHistory
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.task_store import SqlTaskStore
from libs.adapters.training_ports import TaskStore
from libs.adapters.user_history import RedisUserHistory
from tests.contract.catalogue_stand import VECTOR_SIZE, Catalogue, create_legacy_tables, execute, twin
from tests.contract.event_log_stand import EventLog
from tests.contract.training_stand import LegacyStand

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
                open_offsets=lambda group: memory.MemoryGroupOffsets(log, group),
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
            open_offsets=lambda group: KafkaGroupOffsets(servers, group),
            admin=admin,
            closing=closing,
        )


@pytest.fixture(params=["memory", REAL])
async def snapshots(request: pytest.FixtureRequest) -> AsyncIterator[ServedSnapshots]:
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


@asynccontextmanager
async def fresh_database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/catalogue.db"
        return
    shared = request.getfixturevalue("stack").database_url
    name = f"test_{uuid.uuid4().hex}"
    await execute(shared, (f"CREATE DATABASE {name}", {}))
    yield make_url(shared).set(database=name).render_as_string(hide_password=False)
    await execute(shared, (f"DROP DATABASE {name}", {}))


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an empty database of this test's own."""
    async with fresh_database(request, tmp_path) as url:
        yield url


@pytest.fixture(params=["memory", "sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def catalogue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Catalogue]:
    """The legacy tables beside moard's own, both empty."""
    if request.param == "memory":
        yield twin()
        return
    async with fresh_database(request, tmp_path) as url:
        await create_legacy_tables(url)
        await asyncio.to_thread(upgrade, url)
        store = SqlContentStore(url, VECTOR_SIZE)
        await store.start()
        yield Catalogue(store, url)
        await store.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def legacy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LegacyStand]:
    """The legacy tables, empty."""
    if request.param == "memory":
        yield LegacyStand(memory.MemoryLegacyLog())
        return
    async with fresh_database(request, tmp_path) as url:
        await create_legacy_tables(url)
        log = SqlLegacyLog(url)
        yield LegacyStand(log, url)
        await log.close()


@pytest.fixture(params=["memory", "sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def tasks(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TaskStore]:
    """No tasks, and nothing streamed."""
    if request.param == "memory":
        yield memory.MemoryTaskStore()
        return
    async with fresh_database(request, tmp_path) as url:
        await asyncio.to_thread(upgrade, url)
        store = SqlTaskStore(url)
        yield store
        await store.close()
