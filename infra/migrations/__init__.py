"""Alembic migrations of moard's own tables. The legacy tables beside them belong to the backend."""

import asyncio
import contextlib
import fcntl
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from libs.errors import StoreUnavailable

if TYPE_CHECKING:
    from alembic.config import Config

# Alembic is imported where it is needed: it takes half a second of a service's start, and nearly every start finds the
# schema as it is to be.

FOLDER: Final = Path(__file__).parent
VERSION_TABLE: Final = "moard_schema_version"
"""Of our own: the backend that owns the database may use Alembic too."""
NEWEST: Final = max(path.name for path in FOLDER.glob("versions/[0-9]*.py"))[:4]


def upgrade(url: str) -> None:
    """Bring the database to the newest schema; does nothing when it is there already.

    Several processes may call it at once for the same SQLite file: one does it, the others wait. Blocks, and starts an
    event loop of its own: call it in a thread from asynchronous code.

    Raises
    ------
    StoreUnavailable
        When the database does not answer.
    """
    if _is_newest(url):
        return
    from alembic import command

    with _alone(url):
        asyncio.run(_migrate(url, lambda config: command.upgrade(config, "head")))


def downgrade(url: str, revision: str = "base") -> None:
    """Take back migrations down to a revision, their data with them; ``base`` is before the first."""
    from alembic import command

    asyncio.run(_migrate(url, lambda config: command.downgrade(config, revision)))


def revisions(connection: Connection) -> tuple[str | None, str]:
    """Return the revision a database is at, None before the first, and the newest there is."""
    from alembic.runtime.migration import MigrationContext

    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision(), NEWEST


def _file(url: str) -> str | None:
    """Return the SQLite file that a URL names, None for any other database."""
    database = make_url(url).database
    is_file = make_url(url).get_backend_name() == "sqlite" and database != ":memory:"
    return database if is_file and database else None


def _is_newest(url: str) -> bool:
    """Tell whether an SQLite file has the newest schema; False also where nobody can tell."""
    database = _file(url)
    if database is None or not Path(database).is_file():
        return False
    asked = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            versions = connection.execute(asked).fetchall()
    except sqlite3.Error:  # no such table yet, or no such database: Alembic makes it, or says what is wrong
        return False
    return versions == [(NEWEST,)]


@contextlib.contextmanager
def _alone(url: str) -> Iterator[None]:
    """Keep other processes from migrating the same file: SQLite's own lock is left several times meanwhile."""
    database = _file(url)
    if database is None:
        yield
        return
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{database}.migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


async def _migrate(url: str, run: "Callable[[Config], None]") -> None:
    from alembic.config import Config

    def migrate(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(FOLDER))
        config.attributes["connection"] = connection
        run(config)

    # MySQL warns that it ignores the name Alembic gives the primary key of its own table; that is nobody's concern.
    logging.getLogger("asyncmy").setLevel(logging.ERROR)
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                # Several services read while one writes. The mode stays with the file.
                await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            await connection.run_sync(migrate)
            await connection.commit()
    except (OSError, DBAPIError) as error:
        raise StoreUnavailable(f"the database could not be migrated: {error}") from error
    finally:
        await engine.dispose()
