"""The catalogue in SQL: MariaDB or MySQL through asyncmy, SQLite through aiosqlite."""

import asyncio
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Connection, Insert, event, inspect, select
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.adapters.content_tables import (
    LEGACY,
    OWN,
    USERS,
    both,
    legacy_fingerprints,
    legacy_rows,
    merged,
    own_fingerprints,
    own_rows,
)
from libs.adapters.ports import StoredContent
from libs.adapters.sql_sessions import SqlSessions
from libs.adapters.vectors import to_octets
from libs.errors import RefusedStart

DEADLINE_S: Final = 3.0  # of one call; a ranking that misses contents degrades rather than wait longer
_POOL_SIZE: Final = 5


class SqlContentStore:
    """moard's own contents over the legacy ones. Works without the legacy tables.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``mysql+asyncmy://…`` or ``sqlite+aiosqlite://…``, of a database that was migrated.
    vector_size
        Length of a usable vector.
    """

    def __init__(self, url: str, vector_size: int) -> None:
        self._sessions = SqlSessions(url, DEADLINE_S, _POOL_SIZE)
        engine = self._sessions.engine
        self._dialect = engine.dialect.name
        if self._dialect == "sqlite":
            event.listen(engine.sync_engine, "connect", _teach_crc32)
        self._vector_size = vector_size
        self._tables: frozenset[str] | None = None

    async def start(self) -> None:
        """Connect; raises ``StoreUnavailable``, and ``RefusedStart`` for a database that was not migrated."""
        async with self._connected():
            pass

    async def get(self, content_ids: Sequence[int]) -> list[StoredContent]:
        """Return those that exist, in no particular order, in one query."""
        ids = [content_id for content_id in set(content_ids) if -(2**63) <= content_id < 2**63]
        if not ids:
            return []
        async with self._connected() as connection:
            own, legacy = own_rows().where(OWN.c.content_id.in_(ids)), legacy_rows().where(LEGACY.c.id.in_(ids))
            rows = (await connection.execute(both(own, legacy) if self._has("contents") else own)).all()
        # A thousand legacy vectors are megabytes of JSON: not on the loop that answers rankings.
        return list((await asyncio.to_thread(merged, list(rows), self._vector_size)).values())

    async def put(self, content: StoredContent) -> None:
        """Insert or replace one content in moard's own table."""
        embedding = None if content.embedding is None else to_octets(content.embedding, self._vector_size)
        values = {
            "content_id": content.content_id,
            "title": content.title,
            "description": content.description,
            "embedding": embedding,
            "vector_version": content.vector_version,
            "kind": content.kind,
            "hidden": content.hidden,
            "published_at_ms": content.published_at_ms,
            "updated_at_ms": time.time_ns() // 1_000_000,
        }
        async with self._connected() as connection:
            await connection.execute(_upsert(self._dialect, values))
            await connection.commit()

    async def changed_since(self, cursor: str | None, limit: int) -> tuple[list[StoredContent], str | None]:
        """Return the next page of all contents by id, and the cursor of the next page (None at the end)."""
        after = -1 if cursor is None else int(cursor)
        async with self._connected() as connection:
            own = own_rows().where(OWN.c.content_id > after).order_by(OWN.c.content_id).limit(limit)
            legacy = legacy_rows().where(LEGACY.c.id > after).order_by(LEGACY.c.id).limit(limit)
            rows = (await connection.execute(both(own, legacy) if self._has("contents") else own)).all()
        contents = await asyncio.to_thread(merged, list(rows), self._vector_size)
        ids = sorted(contents)[:limit]
        return [contents[content_id] for content_id in ids], str(ids[-1]) if len(ids) == limit else None

    async def fingerprints(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Return id and fingerprint of the next contents by id, from checksums that the database computes.

        A content with rows in both tables changes when either does.
        """
        async with self._connected() as connection:
            own = own_fingerprints().where(OWN.c.content_id > after).order_by(OWN.c.content_id).limit(limit)
            legacy = legacy_fingerprints().where(LEGACY.c.id > after).order_by(LEGACY.c.id).limit(limit)
            rows = (await connection.execute(both(own, legacy) if self._has("contents") else own)).all()
        sums: defaultdict[int, list[tuple[int | None, ...]]] = defaultdict(list)
        for row in rows:
            sums[row.id].append(tuple(row)[1:])
        return [(content_id, hash(tuple(sums[content_id]))) for content_id in sorted(sums)[:limit]]

    async def user_exists(self, user_id: str) -> bool:
        """Return whether the users table has this UUID; False for text that is no UUID."""
        try:
            octets = uuid.UUID(user_id).bytes
        except ValueError:
            return False
        async with self._connected() as connection:
            if not self._has("users"):
                return False
            found = await connection.execute(select(USERS.c.uuid).where(USERS.c.uuid == octets).limit(1))
            return found.first() is not None

    async def close(self) -> None:
        """Close the pool."""
        await self._sessions.close()

    def _has(self, name: str) -> bool:
        return self._tables is not None and name in self._tables

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        async with self._sessions.session() as connection:
            if self._tables is None:
                self._tables = await connection.run_sync(_tables)
            yield connection


def _teach_crc32(connection: Any, _: object) -> None:
    connection.create_function("crc32", 1, _crc32, deterministic=True)


def _crc32(value: object) -> int | None:
    """Return what MySQL's function of this name does, for SQLite, which has none."""
    if value is None or isinstance(value, bytes):
        return None if value is None else zlib.crc32(value)
    return zlib.crc32(str(value).encode())


def _tables(connection: Connection) -> frozenset[str]:
    found = frozenset(inspect(connection).get_table_names())
    if OWN.name not in found:
        raise RefusedStart(
            f"the database of DATABASE_URL has no table {OWN.name}: run `moard migrate` (python -m infra.migrations)"
        )
    return found


def _upsert(dialect: str, values: dict[str, Any]) -> Insert:
    replaced = {name: value for name, value in values.items() if name != "content_id"}
    if dialect == "sqlite":
        return sqlite.insert(OWN).values(values).on_conflict_do_update(index_elements=["content_id"], set_=replaced)
    return mysql.insert(OWN).values(values).on_duplicate_key_update(replaced)
