"""What model administration relies on of its store, held against MariaDB, SQLite and the twin."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.migrations import upgrade
from libs.adapters.memory import MemoryModelStore
from libs.adapters.model_ports import UNPINNED, ModelAction, ModelChange, ModelStore, Pin
from libs.adapters.model_store import SqlModelStore
from libs.errors import ModelConflict, NoSnapshot, RefusedStart, StoreUnavailable
from tests.contract.conftest import fresh_database
from tests.contract.test_snapshot_store import snapshot


@pytest.fixture(params=["memory", "sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def models(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ModelStore]:
    if request.param == "memory":
        yield MemoryModelStore()
        return
    async with fresh_database(request, tmp_path) as url:
        await asyncio.to_thread(upgrade, url)
        store = SqlModelStore(url, "m")
        yield store
        await store.close()


def change(action: ModelAction, subject: str, at_ms: int = 1_700_000_000_123) -> ModelChange:
    return ModelChange(action, subject, "key-1", "request-1", at_ms)


async def keep(models: ModelStore, name: str, version: int, at_ms: int = 1, blob: bytes | None = None) -> None:
    await models.keep(name, *snapshot(version, blob=blob), change("keep", name, at_ms))


async def actions(models: ModelStore) -> list[tuple[str, str]]:
    return [(entry.action, entry.subject) for entry in await models.changes(100)]


async def test_what_was_kept_comes_back_whole(models: ModelStore) -> None:
    blob = bytes(range(256)) * 4_000 + b"'\\\x00\x1a"  # several parts, and what a driver has to escape
    meta, blob = snapshot(1_700_000_000_123, blob=blob)
    await models.keep("before-the-sale", meta, blob, change("keep", "before-the-sale"))
    assert await models.load("before-the-sale") == (replace(meta, trained=()), blob)
    (kept,) = await models.kept()
    assert (kept.name, kept.meta.version, kept.kept_ms, kept.kept_by) == (
        "before-the-sale",
        meta.version,
        1_700_000_000_123,
        "key-1",
    )


async def test_names_differ_by_case_and_may_share_a_version(models: ModelStore) -> None:
    for at_ms, name in enumerate(("a", "A", "a.1")):
        await keep(models, name, 20, at_ms)
    assert [kept.name for kept in await models.kept()] == ["a.1", "A", "a"]
    await models.delete("A", change("delete", "A"))
    assert [kept.name for kept in await models.kept()] == ["a.1", "a"]
    assert (await models.load("a"))[1] == snapshot(20)[1]
    with pytest.raises(NoSnapshot):
        await models.load("A")


async def test_keeping_again_changes_nothing_and_another_snapshot_is_refused(models: ModelStore) -> None:
    await keep(models, "a", 20)
    await keep(models, "a", 20)
    with pytest.raises(ModelConflict, match="20"):
        await keep(models, "a", 21)
    with pytest.raises(ModelConflict, match="20"):
        await keep(models, "a", 20, blob=b"of another learner")
    assert (await models.load("a"))[1] == snapshot(20)[1]
    assert await actions(models) == [("keep", "a")]


async def test_of_two_that_take_a_name_at_once_one_wins(models: ModelStore) -> None:
    async def take(version: int) -> int:
        while True:
            try:
                await keep(models, "a", version)
            except ModelConflict:
                return 0
            except StoreUnavailable:  # a deadlock broken by the database: try again, as a client would
                continue
            return version

    (won,) = set(await asyncio.gather(*(take(version) for version in range(20, 26)))) - {0}
    assert await models.load("a") == (replace(snapshot(won)[0], trained=()), snapshot(won)[1])
    assert await actions(models) == [("keep", "a")]


async def test_a_pin_stands_until_it_is_taken_away(models: ModelStore) -> None:
    assert await models.pinned() == UNPINNED
    for version, name in ((20, "a"), (30, "b")):
        await keep(models, name, version)
    for name in ("a", "b", "b"):
        pin = await models.pin(name, change("pin", name))
        assert await models.pinned() == pin
    assert pin == Pin("b", 30, snapshot(30)[0].sha256, 1_700_000_000_123, "key-1")
    assert await models.unpin(change("unpin", "b"))
    assert await models.pinned() == UNPINNED
    assert not await models.unpin(change("unpin", "b"))
    assert (await actions(models))[:4] == [("unpin", "b"), ("pin", "b"), ("pin", "b"), ("pin", "a")]


async def test_what_is_not_there_cannot_be_pinned_or_deleted(models: ModelStore) -> None:
    with pytest.raises(NoSnapshot):
        await models.pin("a", change("pin", "a"))
    with pytest.raises(NoSnapshot):
        await models.delete("a", change("delete", "a"))
    assert (await models.pinned(), await models.kept(), await models.changes(10)) == (UNPINNED, [], [])


async def test_what_is_pinned_cannot_be_deleted(models: ModelStore) -> None:
    await keep(models, "a", 20)
    await models.pin("a", change("pin", "a"))
    with pytest.raises(ModelConflict, match="pinned"):
        await models.delete("a", change("delete", "a"))
    assert (await models.load("a"))[1] == snapshot(20)[1]
    await models.unpin(change("unpin", "a"))
    await models.delete("a", change("delete", "a"))
    assert await models.kept() == []
    assert await actions(models) == [("delete", "a"), ("unpin", "a"), ("pin", "a"), ("keep", "a")]


async def test_the_audit_log_is_read_from_its_end(models: ModelStore) -> None:
    for version in range(1, 6):
        await keep(models, f"m{version}", version, at_ms=version)
    assert await models.changes(2) == [change("keep", "m5", 5), change("keep", "m4", 4)]


async def test_model_lines_share_a_database_and_nothing_else(database: str) -> None:
    await asyncio.to_thread(upgrade, database)
    one, other = SqlModelStore(database, "one"), SqlModelStore(database, "other")
    await keep(one, "a", 20)
    await one.pin("a", change("pin", "a"))
    assert (await other.kept(), await other.pinned(), await other.changes(10)) == ([], UNPINNED, [])
    await keep(other, "a", 21)
    assert (await one.load("a"))[1] == snapshot(20)[1]
    await other.delete("a", change("delete", "a"))
    assert (await one.load("a"))[1] == snapshot(20)[1]
    await one.close()
    await other.close()


async def test_a_database_that_was_not_migrated_is_refused_with_the_remedy(database: str) -> None:
    store = SqlModelStore(database, "m")
    with pytest.raises(RefusedStart, match="moard migrate"):
        await store.pinned()
    await store.close()


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    store = SqlModelStore("mysql+asyncmy://moard@127.0.0.1:1/moard", "m")
    with pytest.raises(StoreUnavailable):
        await store.pinned()
    await store.close()
