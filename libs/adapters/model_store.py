"""Kept snapshots, the pin and the audit log in SQL: MariaDB or MySQL through asyncmy, SQLite through aiosqlite."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import orjson
from sqlalchemy import ColumnElement, Table, delete, insert, inspect, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.adapters.model_ports import UNPINNED, KeptSnapshot, ModelChange, Pin
from libs.adapters.model_tables import CHANGES, KEPT, PARTS, PINS, change_of, kept_of, meta_of, pin_of
from libs.adapters.ports import SnapshotMeta
from libs.adapters.sql_sessions import SqlSessions
from libs.errors import ModelConflict, NoSnapshot, RefusedStart

DEADLINE_S: Final = 3.0  # of one call
_BLOB_DEADLINE_S: Final = 20.0  # of one that carries a blob, up to 64 MB
# Far below MySQL's max_allowed_packet (16 MB by default), and short enough for the loop: a driver escapes a part on it.
_PART_BYTES: Final = 2**18


class SqlModelStore:
    """The tables ``moard_models``, ``moard_model_parts``, ``moard_model_pins`` and ``moard_model_changes``.

    Every change begins with its line of the audit log, which locks SQLite's file, and then locks the rows it is
    about, which is what MySQL needs: two changes at once happen one after the other.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``mysql+asyncmy://…`` or ``sqlite+aiosqlite://…``, of a database that was migrated.
    model
        Model line: several may share a database.
    """

    def __init__(self, url: str, model: str) -> None:
        self._sessions = SqlSessions(url, DEADLINE_S)
        self._model = model
        self._exists = False

    async def keep(self, name: str, meta: SnapshotMeta, blob: bytes, change: ModelChange) -> None:
        """Keep a snapshot under a name; raises ``ModelConflict`` when it stands for another one."""
        row = {
            "model": self._model,
            "name": name,
            "version": meta.version,
            "sha256": meta.sha256,
            "meta": orjson.dumps(dataclasses.replace(meta, trained=())).decode(),
            "kept_ms": change.at_ms,
            "kept_by": change.actor,
        }
        async with self._connected(_BLOB_DEADLINE_S) as connection:
            if await self._has(connection, name, meta):
                return
            try:
                await self._note(connection, change)
                await connection.execute(insert(KEPT).values(row))
            except IntegrityError:  # somebody was faster
                await connection.rollback()
                if await self._has(connection, name, meta):
                    return
                raise
            for part, start in enumerate(range(0, len(blob), _PART_BYTES)):
                octets = blob[start : start + _PART_BYTES]
                values = {"model": self._model, "name": name, "part": part, "octets": octets}
                await connection.execute(insert(PARTS).values(values))
            await connection.commit()

    async def kept(self) -> list[KeptSnapshot]:
        """Return all kept snapshots, the ones kept last first."""
        order = (KEPT.c.kept_ms.desc(), KEPT.c.name)
        async with self._connected() as connection:
            found = await connection.execute(select(KEPT).where(KEPT.c.model == self._model).order_by(*order))
            return [kept_of(row) for row in found]

    async def load(self, name: str) -> tuple[SnapshotMeta, bytes]:
        """Return one kept snapshot; raises ``NoSnapshot`` when there is none of that name."""
        parts = select(PARTS.c.octets).where(self._named(PARTS, name)).order_by(PARTS.c.part)
        async with self._connected(_BLOB_DEADLINE_S) as connection:
            row = (await connection.execute(select(KEPT).where(self._named(KEPT, name)))).first()
            if row is None:
                raise NoSnapshot(f"no snapshot is kept as {name}")
            return meta_of(row), b"".join((await connection.execute(parts)).scalars())

    async def pinned(self) -> Pin:
        """Return the pin."""
        async with self._connected() as connection:
            row = (await connection.execute(select(PINS).where(PINS.c.model == self._model))).first()
        return UNPINNED if row is None else pin_of(row)

    async def pin(self, name: str, change: ModelChange) -> Pin:
        """Pin a kept snapshot; raises ``NoSnapshot`` when there is none of that name."""
        async with self._connected() as connection:
            await self._note(connection, change)
            row = (await connection.execute(select(KEPT).where(self._named(KEPT, name)).with_for_update())).first()
            if row is None:
                raise NoSnapshot(f"no snapshot is kept as {name}")
            pin = Pin(name, row.version, row.sha256, change.at_ms, change.actor)
            values = dataclasses.asdict(pin)
            pinned = select(PINS.c.model).where(PINS.c.model == self._model).with_for_update()
            if (await connection.execute(pinned)).first() is None:
                await connection.execute(insert(PINS).values(model=self._model, **values))
            else:
                await connection.execute(update(PINS).where(PINS.c.model == self._model).values(values))
            await connection.commit()
        return pin

    async def unpin(self, change: ModelChange) -> bool:
        """Let the newest snapshot rank again; False when nothing was pinned."""
        async with self._connected() as connection:
            gone = await connection.execute(delete(PINS).where(PINS.c.model == self._model))
            if gone.rowcount == 0:
                return False
            await self._note(connection, change)
            await connection.commit()
        return True

    async def delete(self, name: str, change: ModelChange) -> None:
        """Forget a kept snapshot; raises ``NoSnapshot``, and ``ModelConflict`` for the pinned one."""
        async with self._connected() as connection:
            await self._note(connection, change)
            row = (
                await connection.execute(select(KEPT.c.name).where(self._named(KEPT, name)).with_for_update())
            ).first()
            if row is None:
                raise NoSnapshot(f"no snapshot is kept as {name}")
            if (await connection.execute(select(PINS.c.name).where(self._named(PINS, name)).with_for_update())).first():
                raise ModelConflict(f"{name} is pinned: change to another model first")
            await connection.execute(delete(PARTS).where(self._named(PARTS, name)))
            await connection.execute(delete(KEPT).where(self._named(KEPT, name)))
            await connection.commit()

    async def changes(self, limit: int) -> list[ModelChange]:
        """Return the newest lines of the audit log, newest first."""
        newest = select(CHANGES).where(CHANGES.c.model == self._model).order_by(CHANGES.c.id.desc()).limit(limit)
        async with self._connected() as connection:
            return [change_of(row) for row in await connection.execute(newest)]

    async def close(self) -> None:
        """Close the pool."""
        await self._sessions.close()

    def _named(self, table: Table, name: str) -> ColumnElement[bool]:
        return (table.c.model == self._model) & (table.c.name == name)

    async def _has(self, connection: AsyncConnection, name: str, meta: SnapshotMeta) -> bool:
        """Return whether the name stands for this snapshot, False when it is free."""
        row = (await connection.execute(select(KEPT).where(self._named(KEPT, name)))).first()
        if row is not None and (row.version, row.sha256) != (meta.version, meta.sha256):
            raise ModelConflict(f"{name} is the name of snapshot {row.version}")
        return row is not None

    async def _note(self, connection: AsyncConnection, change: ModelChange) -> None:
        await connection.execute(insert(CHANGES).values(model=self._model, **dataclasses.asdict(change)))

    @asynccontextmanager
    async def _connected(self, deadline_s: float = DEADLINE_S) -> AsyncIterator[AsyncConnection]:
        async with self._sessions.session(deadline_s) as connection:
            if not self._exists:
                self._exists = await connection.run_sync(lambda found: inspect(found).has_table(KEPT.name))
                if not self._exists:
                    raise RefusedStart(
                        f"the database of DATABASE_URL has no table {KEPT.name}: run `moard migrate` "
                        "(python -m infra.migrations)"
                    )
                await connection.rollback()  # looking began a transaction
            yield connection
