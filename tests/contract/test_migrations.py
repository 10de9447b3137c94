"""moard's own tables: created, created again, and taken back, beside tables of somebody else."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from infra.migrations import FOLDER, NEWEST, downgrade, upgrade
from libs.adapters.content_store import SqlContentStore
from libs.adapters.ports import StoredContent
from libs.errors import RefusedStart, StoreUnavailable
from tests.contract.catalogue_stand import create_legacy_tables, execute

OWN = {
    "moard_api_keys",
    "moard_contents",
    "moard_models",
    "moard_model_parts",
    "moard_model_pins",
    "moard_model_changes",
    "moard_training_tasks",
    "moard_backfill",
}


async def tables(url: str) -> set[str]:
    def names(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(names)
    await engine.dispose()
    return found


async def test_migrations_go_forth_and_back_and_leave_the_backend_alone(database: str) -> None:
    await create_legacy_tables(database)
    before = await tables(database)
    for _ in range(2):
        await asyncio.to_thread(upgrade, database)
    assert await tables(database) == before | OWN | {"moard_schema_version"}
    await asyncio.to_thread(downgrade, database)
    assert await tables(database) == before | {"moard_schema_version"}
    await asyncio.to_thread(upgrade, database)
    assert await tables(database) > OWN


async def test_a_migration_cut_off_before_its_version_was_noted_runs_again(database: str) -> None:
    await asyncio.to_thread(upgrade, database)
    await execute(database, ("DELETE FROM moard_schema_version", {}))
    await asyncio.to_thread(upgrade, database)


async def test_a_store_without_legacy_tables_works(database: str) -> None:
    await asyncio.to_thread(upgrade, database)
    store = SqlContentStore(database, 3)
    await store.start()
    await store.put(StoredContent(1, title="a"))
    assert await store.get([1, 2]) == [StoredContent(1, title="a")]
    assert await store.changed_since(None, 10) == ([StoredContent(1, title="a")], None)
    assert [content_id for content_id, _ in await store.fingerprints(-1, 10)] == [1]
    assert not await store.user_exists("5f2b1f3e-8a55-4f4e-9d0a-0a8f6d2b4b11")
    await store.close()


async def test_a_database_that_was_not_migrated_is_refused_with_the_remedy(database: str) -> None:
    store = SqlContentStore(database, 3)
    with pytest.raises(RefusedStart, match="moard migrate"):
        await store.start()
    await store.close()


async def test_a_database_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    nowhere = [f"sqlite+aiosqlite:///{tmp_path}/absent/moard.db", "mysql+asyncmy://moard@127.0.0.1:1/moard"]
    for url in nowhere:
        store = SqlContentStore(url, 3)
        with pytest.raises(StoreUnavailable):
            await store.start()
        await store.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(upgrade, nowhere[1])


async def test_the_folder_of_a_sqlite_file_is_created(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/new/folder/moard.db"
    await asyncio.to_thread(upgrade, url)
    assert "moard_contents" in await tables(url)


async def test_an_sqlite_file_of_the_newest_schema_is_told_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/moard.db"
    asked = "import sys; from infra.migrations import upgrade; upgrade(sys.argv[1]); print('alembic' in sys.modules)"

    def imported() -> str:
        return subprocess.run([sys.executable, "-c", asked, url], check=True, capture_output=True, text=True).stdout

    assert [imported(), imported()] == ["True\n", "False\n"]
    await execute(url, ("UPDATE moard_schema_version SET version_num = '0001'", {}))
    assert imported() == "True\n"


def test_the_newest_schema_is_the_one_alembic_goes_to() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST
