"""API keys in memory, SQLite and MariaDB alike."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.migrations import upgrade
from libs.adapters.key_store import SqlKeyStore
from libs.adapters.keys import new_key
from libs.adapters.memory import MemoryKeyStore
from libs.adapters.ports import KeyStore, StoredKey
from libs.errors import RefusedStart, StoreUnavailable
from tests.contract.conftest import fresh_database


@pytest.fixture(params=["memory", "sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    async with fresh_database(request, tmp_path) as url:
        await asyncio.to_thread(upgrade, url)
        opened = SqlKeyStore(url)
        yield opened
        await opened.close()


async def test_keys_come_back_as_they_were_added(store: KeyStore) -> None:
    assert await store.keys() == []
    _, first = new_key("백엔드 'a'; DROP TABLE moard_api_keys", ["rank", "ingest"])
    _, second = new_key("b", ["admin"], expires_ms=2**40)
    await store.add(first)
    await store.add(second)
    assert sorted(await store.keys(), key=lambda key: key.name) == sorted([first, second], key=lambda key: key.name)


async def test_a_key_is_revoked_once(store: KeyStore) -> None:
    _, key = new_key("a", ["rank"])
    await store.add(key)
    assert await store.revoke(key.id, 5)
    assert await store.revoke(key.id, 9)
    assert [found.revoked_ms for found in await store.keys()] == [5]
    assert not await store.revoke("absent", 5)


async def test_without_the_table_there_are_no_keys_and_none_can_be_added(database: str) -> None:
    store = SqlKeyStore(database)
    assert await store.keys() == []
    with pytest.raises(RefusedStart, match="moard migrate"):
        await store.add(StoredKey("a", "a", "", ("rank",), 1))
    await asyncio.to_thread(upgrade, database)
    await store.add(StoredKey("a", "a", "", ("rank",), 1))
    assert len(await store.keys()) == 1
    await store.close()


async def test_a_database_that_is_not_there_is_unavailable_and_its_message_holds_no_password() -> None:
    store = SqlKeyStore("mysql+asyncmy://moard:hunter2@127.0.0.1:1/moard")
    with pytest.raises(StoreUnavailable) as caught:
        await store.keys()
    assert "hunter2" not in str(caught.value)
    await store.close()
