"""Training tasks in SQL, and the lease of the worker that streams the legacy tables."""

from dataclasses import asdict
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    update,
)

from libs.adapters.sql_sessions import SqlSessions
from libs.adapters.training_ports import Cursor, TrainingTask

DEADLINE_S: Final = 3.0  # of one call

_METADATA: Final = MetaData()
TASKS: Final = Table(
    "moard_training_tasks",
    _METADATA,
    Column("task_id", String, primary_key=True),
    Column("created_ms", BigInteger),
    Column("batch_size", BigInteger),
    Column("recommendations", BigInteger),
    Column("save_model", Boolean),
    Column("status", String),
    Column("ended_ms", BigInteger),
    Column("total", BigInteger),
    Column("processed", BigInteger),
    Column("results", Text),
    Column("total_loss", Double),
    Column("error", Text),
    Column("save_path", String),
    Column("message", Text),
    Column("state", Text),
)
BACKFILL: Final = Table(
    "moard_backfill",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("recommendation_id", BigInteger),
    Column("log_id", BigInteger),
    Column("owner", String),
    Column("until_ms", BigInteger),
)
_CURSOR: Final = select(BACKFILL.c.recommendation_id, BACKFILL.c.log_id).where(BACKFILL.c.id == 1)


class SqlTaskStore:
    """The tables ``moard_training_tasks`` and ``moard_backfill``, created by ``infra/migrations``."""

    def __init__(self, url: str) -> None:
        self._sql = SqlSessions(url, DEADLINE_S)

    async def add(self, task: TrainingTask) -> None:
        """Keep a new task."""
        async with self._sql.session() as connection:
            await connection.execute(insert(TASKS).values(_values(task)))
            await connection.commit()

    async def get(self, task_id: str) -> TrainingTask | None:
        """Return a task, None when there is none of that id."""
        async with self._sql.session() as connection:
            row = (await connection.execute(select(TASKS).where(TASKS.c.task_id == task_id))).first()
        return None if row is None else _task(row)

    async def newest(self, limit: int) -> list[TrainingTask]:
        """Return the newest tasks, newest first."""
        asked = select(TASKS).order_by(TASKS.c.created_ms.desc(), TASKS.c.task_id).limit(limit)
        async with self._sql.session() as connection:
            return [_task(row) for row in await connection.execute(asked)]

    async def oldest_processing(self) -> TrainingTask | None:
        """Return the task whose turn it is."""
        asked = select(TASKS).where(TASKS.c.status == "processing").order_by(TASKS.c.created_ms, TASKS.c.task_id)
        async with self._sql.session() as connection:
            row = (await connection.execute(asked.limit(1))).first()
        return None if row is None else _task(row)

    async def remove(self, task_id: str) -> bool:
        """Forget a task; False when there is none of that id."""
        async with self._sql.session() as connection:
            removed = await connection.execute(delete(TASKS).where(TASKS.c.task_id == task_id))
            await connection.commit()
        return removed.rowcount > 0

    async def forget_ended(self, before_ms: int) -> int:
        """Forget tasks that ended before a moment, and return how many."""
        async with self._sql.session() as connection:
            removed = await connection.execute(delete(TASKS).where(TASKS.c.ended_ms < before_ms))
            await connection.commit()
        return removed.rowcount

    async def cursor(self) -> Cursor:
        """Return what was streamed so far."""
        async with self._sql.session() as connection:
            return Cursor(*(await connection.execute(_CURSOR)).one())

    async def claim(self, owner: str, now_ms: int, until_ms: int) -> Cursor | None:
        """Take the lease, or keep it, and return the cursor; None while another owner's lease lasts."""
        free = or_(BACKFILL.c.owner == owner, BACKFILL.c.until_ms < now_ms)
        taking = update(BACKFILL).where(BACKFILL.c.id == 1, free).values(owner=owner, until_ms=until_ms)
        async with self._sql.session() as connection:
            taken = await connection.execute(taking)
            cursor = (await connection.execute(_CURSOR)).first() if taken.rowcount else None
            await connection.commit()
        return None if cursor is None else Cursor(*cursor)

    async def renew(self, owner: str, until_ms: int) -> bool:
        """Keep the lease; False when it is not this owner's any more, which is never taken back like this."""
        async with self._sql.session() as connection:
            kept = await connection.execute(update(BACKFILL).where(*_held_by(owner)).values(until_ms=until_ms))
            await connection.commit()
        return kept.rowcount > 0

    async def save(self, owner: str, until_ms: int, task: TrainingTask, cursor: Cursor) -> bool:
        """Write task and cursor at once and keep the lease; False when the lease is lost or the task was removed."""
        moving = update(BACKFILL).where(*_held_by(owner))
        values = _values(task)
        del values["task_id"]
        async with self._sql.session() as connection:
            moved = await connection.execute(moving.values(**cursor._asdict(), until_ms=until_ms))
            if not moved.rowcount:
                return False
            written = await connection.execute(update(TASKS).where(TASKS.c.task_id == task.task_id).values(values))
            await connection.commit()
        return written.rowcount > 0

    async def release(self, owner: str) -> None:
        """Give the lease back, if it is this owner's."""
        async with self._sql.session() as connection:
            await connection.execute(update(BACKFILL).where(*_held_by(owner)).values(owner="", until_ms=0))
            await connection.commit()

    async def close(self) -> None:
        """Close the pool."""
        await self._sql.close()


def _held_by(owner: str) -> tuple[ColumnElement[bool], ...]:
    return BACKFILL.c.id == 1, BACKFILL.c.owner == owner


def _values(task: TrainingTask) -> dict[str, Any]:
    return asdict(task) | {"results": orjson.dumps(task.results).decode()}


def _task(row: Row[Any]) -> TrainingTask:
    values = dict(row._mapping)
    values["save_model"] = bool(values["save_model"])
    values["results"] = tuple((q_value, loss) for q_value, loss in orjson.loads(values["results"]))
    return TrainingTask(**values)
