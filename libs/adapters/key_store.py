"""API keys in SQL: MariaDB or MySQL through asyncmy, SQLite through aiosqlite."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    MetaData,
    Row,
    String,
    Table,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.adapters.ports import StoredKey
from libs.adapters.sql_sessions import SqlSessions
from libs.errors import RefusedStart

DEADLINE_S: Final = 3.0  # of one call

KEYS: Final = Table(
    "moard_api_keys",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("name", String),
    Column("digest", String),
    Column("scopes", String),
    Column("created_ms", BigInteger),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)


class SqlKeyStore:
    """The table ``moard_api_keys``, created by ``infra/migrations``.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``mysql+asyncmy://…`` or ``sqlite+aiosqlite://…``.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._sessions = SqlSessions(url, DEADLINE_S, pool_size=1)
        self._exists = False

    async def keys(self) -> list[StoredKey]:
        """Return every key; empty where the table was not created yet. Raises ``StoreUnavailable``."""
        if self._url.get_backend_name() == "sqlite" and not await asyncio.to_thread(_is_there, self._url):
            return []  # the file is created by the migration, and its folder too
        async with self._connected() as connection:
            return [_key(row) for row in await connection.execute(select(KEYS))] if self._exists else []

    async def add(self, key: StoredKey) -> None:
        """Keep a new key; raises ``RefusedStart`` for a database that was not migrated."""
        async with self._connected() as connection:
            self._require_table()
            values = {
                "id": key.id,
                "name": key.name,
                "digest": key.digest,
                "scopes": ",".join(key.scopes),
                "created_ms": key.created_ms,
                "expires_ms": key.expires_ms,
                "revoked_ms": key.revoked_ms,
            }
            await connection.execute(insert(KEYS).values(values))
            await connection.commit()

    async def revoke(self, key_id: str, now_ms: int) -> bool:
        """Revoke a key for good; False when there is none of this id."""
        async with self._connected() as connection:
            self._require_table()
            revoked = func.coalesce(KEYS.c.revoked_ms, now_ms)
            await connection.execute(update(KEYS).where(KEYS.c.id == key_id).values(revoked_ms=revoked))
            await connection.commit()
            return (await connection.execute(select(KEYS.c.id).where(KEYS.c.id == key_id))).first() is not None

    async def close(self) -> None:
        """Close the pool."""
        await self._sessions.close()

    def _require_table(self) -> None:
        if not self._exists:
            raise RefusedStart(f"the database of DATABASE_URL has no table {KEYS.name}: run `moard migrate`")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        async with self._sessions.session() as connection:
            if not self._exists:
                self._exists = await connection.run_sync(lambda found: inspect(found).has_table(KEYS.name))
            yield connection


def _is_there(url: URL) -> bool:
    return url.database in (None, "", ":memory:") or Path(str(url.database)).exists()


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(
        row.id, row.name, row.digest, tuple(row.scopes.split(",")), row.created_ms, row.expires_ms, row.revoked_ms
    )
