"""What the legacy server recommended and what came of it, read from the backend's tables (api.md §2)."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    LargeBinary,
    Row,
    Select,
    TableClause,
    TextClause,
    and_,
    case,
    column,
    func,
    inspect,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.adapters.content_tables import epoch_ms
from libs.adapters.sql_sessions import SqlSessions
from libs.adapters.training_ports import Cursor, LegacyLogRow, LegacyPage, LegacyRecommendation

DEADLINE_S: Final = 10.0  # of one page; nobody waits for it but the task
_COUNTED: Final = 20_000  # rows that one question counts
_KINDS: Final[dict[str, Literal["click", "view"]]] = {"CLICK": "click", "VIEW": "view"}

USERS: Final = table("users", column("id"), column("uuid", LargeBinary))
LOGS: Final = table(
    "user_logs",
    *map(column, ("id", "user_id", "event_type", "content_id", "recommendation_id", "ratio", "timestamp")),
)
RECOMMENDATIONS: Final = table("recommendations", *map(column, ("id", "user_id", "recommended_at")))
SHOWN: Final = table("recommendation_contents", *map(column, ("recommendation_id", "content_id", "ranks")))
_TABLES: Final = {"users", "user_logs", "recommendations", "recommendation_contents"}


class SqlLegacyLog:
    """The legacy tables. Each question reads a bounded number of rows by key.

    Notes
    -----
    Fast where the backend's foreign keys have their indexes: ``user_logs(recommendation_id)``,
    ``user_logs(user_id)`` and ``recommendation_contents(recommendation_id)``.
    """

    def __init__(self, url: str) -> None:
        self._sql = SqlSessions(url, DEADLINE_S)

    async def bound(self, after: Cursor, recommendations: int | None) -> Cursor:
        """Return the newest ids, of recommendations at most that many after the cursor."""
        async with self._sql.session() as connection:
            if not await connection.run_sync(_complete):
                return after
            newest_log = await _newest(connection, LOGS)
            newest = await _newest(connection, RECOMMENDATIONS)
        if recommendations is not None:
            newest = await self._nth(after.recommendation_id, newest, recommendations)
        return Cursor(max(after.recommendation_id, newest), max(after.log_id, newest_log))

    async def count(self, after: Cursor, until: Cursor) -> int:
        """Return the usable logs between two cursors: what streaming from one to the other appends."""
        return await self._count_late(after, until) + await self._count_of_recommendations(after, until)

    async def late_logs(self, after_id: int, until_id: int, recommendations_until: int, limit: int) -> LegacyPage:
        """Return what is late among the next ``limit`` logs by id; ``last_id`` is ``until_id`` at the end."""
        page = _page(LOGS, after_id, until_id, limit, LOGS.c.id).subquery()
        async with self._sql.session() as connection:
            found, last_id = (await connection.execute(select(func.count(), func.max(page.c.id)))).one()
            last_id = last_id if found == limit else until_id
            asked = _logs().where(LOGS.c.id > after_id, LOGS.c.id <= last_id, _late(LOGS, recommendations_until))
            rows = (await connection.execute(asked)).all()
        return LegacyPage([log for row in rows if (log := _log(row)) is not None], last_id)

    async def recommendations(
        self, after_id: int, until_id: int, logs_until: int, limit: int
    ) -> list[LegacyRecommendation]:
        """Return the next recommendations by id, each with its logs up to ``logs_until``; empty at the end."""
        page = _page(RECOMMENDATIONS, after_id, until_id, limit).subquery()
        asked = (
            select(page, USERS.c.uuid)
            .select_from(page.outerjoin(USERS, USERS.c.id == page.c.user_id))
            .order_by(page.c.id)
        )
        async with self._sql.session() as connection:
            rows = (await connection.execute(asked)).all()
            if not rows:
                return []
            ids = [row.id for row in rows]
            slates = await _slates(connection, ids)
            logs = await _logs_of(connection, ids, logs_until)
            clicks = await _clicks_before(connection, rows)
        return [
            LegacyRecommendation(
                row.id,
                _user(row.uuid),
                epoch_ms(row.recommended_at),
                tuple(dict.fromkeys(slates[row.id])),
                tuple(clicks.get(row.id, ())),
                tuple(logs[row.id]),
            )
            for row in rows
        ]

    async def close(self) -> None:
        """Close the pool."""
        await self._sql.close()

    async def _nth(self, after_id: int, until_id: int, count: int) -> int:
        """Return the id of the ``count``-th recommendation after an id, the last one's when there are fewer."""
        while count > 0:
            page = _page(RECOMMENDATIONS, after_id, until_id, min(count, _COUNTED), RECOMMENDATIONS.c.id).subquery()
            async with self._sql.session() as connection:
                found, last_id = (await connection.execute(select(func.count(), func.max(page.c.id)))).one()
            if not found:
                break
            after_id, count = last_id, count - found
        return after_id

    async def _count_late(self, after: Cursor, until: Cursor) -> int:
        """Count new logs of recommendations that were streamed before, and of none."""
        total, at = 0, after.log_id
        while at < until.log_id:
            page = _page(LOGS, at, until.log_id, _COUNTED).subquery()
            joined = page.outerjoin(USERS, USERS.c.id == page.c.user_id)
            usable = and_(_late(page, after.recommendation_id), _usable(page))
            asked = select(func.max(page.c.id), func.sum(case((usable, 1), else_=0))).select_from(joined)
            async with self._sql.session() as connection:
                last_id, found = (await connection.execute(asked)).one()
            total, at = total + int(found or 0), until.log_id if last_id is None else last_id
        return total

    async def _count_of_recommendations(self, after: Cursor, until: Cursor) -> int:
        total, at = 0, after.recommendation_id
        while at < until.recommendation_id:
            last_id = await self._nth(at, until.recommendation_id, _COUNTED)
            named = LOGS.join(RECOMMENDATIONS, RECOMMENDATIONS.c.id == LOGS.c.recommendation_id)
            joined = named.join(USERS, USERS.c.id == LOGS.c.user_id)
            within = and_(RECOMMENDATIONS.c.id > at, RECOMMENDATIONS.c.id <= last_id, LOGS.c.id <= until.log_id)
            asked = select(func.count()).select_from(joined).where(within, _usable(LOGS))
            async with self._sql.session() as connection:
                total += int((await connection.execute(asked)).scalar_one())
            if last_id == at:
                break
            at = last_id
        return total


def _complete(connection: Connection) -> bool:
    return set(inspect(connection).get_table_names()) >= _TABLES


async def _newest(connection: AsyncConnection, source: TableClause) -> int:
    return int((await connection.execute(select(func.max(source.c.id)))).scalar_one() or 0)


def _late(logs: FromClause, recommendations_until: int) -> ColumnElement[bool]:
    """Select logs that will not come with their recommendation: it was streamed before, or there is none."""
    return or_(logs.c.recommendation_id.is_(None), logs.c.recommendation_id <= recommendations_until)


def _usable(logs: FromClause) -> ColumnElement[bool]:
    return and_(USERS.c.uuid.is_not(None), logs.c.content_id >= 0, logs.c.event_type.in_(list(_KINDS)))


def _logs() -> Select[Any]:
    joined = LOGS.join(USERS, USERS.c.id == LOGS.c.user_id)
    return select(*LOGS.c, USERS.c.uuid).select_from(joined).where(_usable(LOGS)).order_by(LOGS.c.id)


def _page(source: TableClause, after_id: int, until_id: int, limit: int, *columns: ColumnElement[Any]) -> Select[Any]:
    asked = select(*(columns or source.c)).where(source.c.id > after_id, source.c.id <= until_id)
    return asked.order_by(source.c.id).limit(limit)


async def _slates(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, list[int]]:
    asked = select(SHOWN.c.recommendation_id, SHOWN.c.content_id).where(
        SHOWN.c.recommendation_id.in_(ids), SHOWN.c.content_id >= 0
    )
    found: dict[int, list[int]] = defaultdict(list)
    for recommendation_id, content_id in await connection.execute(asked.order_by(SHOWN.c.ranks, SHOWN.c.content_id)):
        found[recommendation_id].append(content_id)
    return found


async def _logs_of(connection: AsyncConnection, ids: Sequence[int], until_id: int) -> dict[int, list[LegacyLogRow]]:
    asked = _logs().where(LOGS.c.recommendation_id.in_(ids), LOGS.c.id <= until_id)
    found: dict[int, list[LegacyLogRow]] = defaultdict(list)
    for row in await connection.execute(asked):
        if (log := _log(row)) is not None:
            found[row.recommendation_id].append(log)
    return found


async def _clicks_before(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> dict[int, list[tuple[int, int]]]:
    """Return the clicks of each recommendation's user before it, newest first."""
    dated = [row for row in rows if row.recommended_at is not None]
    if not dated:
        return {}
    found: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    values: dict[str, Any] = {}
    for number, row in enumerate(dated):
        values |= {f"r{number}": row.id, f"u{number}": row.user_id, f"t{number}": row.recommended_at}
    for recommendation_id, content_id, timestamp, log_id in await connection.execute(_clicks_query(len(dated)), values):
        if (at_ms := epoch_ms(timestamp)) is not None:
            found[recommendation_id].append((at_ms, log_id, content_id))
    return {
        recommendation_id: [(content_id, at_ms) for at_ms, _, content_id in sorted(clicks, reverse=True)]
        for recommendation_id, clicks in found.items()
    }


@lru_cache(maxsize=64)
def _clicks_query(count: int) -> TextClause:
    """Return one question for many states: a limit for each is what no grouping has.

    As text: hundreds of parts would have to be put together for each page.
    """
    one = (
        "SELECT * FROM (SELECT :r{n} AS recommendation_id, content_id, timestamp, id FROM user_logs"
        " WHERE user_id = :u{n} AND event_type = 'CLICK' AND content_id >= 0 AND timestamp < :t{n}"
        " ORDER BY timestamp DESC, id DESC LIMIT 30) AS s{n}"  # 30: the state of rl.md §2
    )
    return text(" UNION ALL ".join(one.format(n=number) for number in range(count)))


def _log(row: Row[Any]) -> LegacyLogRow | None:
    user_id, kind = _user(row.uuid), _KINDS.get(row.event_type or "")
    if user_id is None or kind is None:
        return None
    return LegacyLogRow(
        row.id, user_id, kind, row.content_id, row.recommendation_id, row.ratio, epoch_ms(row.timestamp)
    )


def _user(octets: bytes | None) -> str | None:
    return str(uuid.UUID(bytes=bytes(octets))) if octets is not None and len(octets) == 16 else None
