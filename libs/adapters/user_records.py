"""What the backend's tables hold of one user, for whoever asks to see it (api.md §2). Only read: they are not ours."""

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, Row, inspect, text

from libs.adapters.sql_sessions import SqlSessions

_DEADLINE_S: Final = 60.0  # somebody waits for all of it, once

_OF_USER: Final = {
    "users": "SELECT * FROM users WHERE id = :user",
    "user_logs": "SELECT * FROM user_logs WHERE user_id = :user ORDER BY id",
    "recommendations": "SELECT * FROM recommendations WHERE user_id = :user ORDER BY id",
    "recommendation_contents": (
        "SELECT shown.* FROM recommendation_contents AS shown JOIN recommendations ON recommendations.id = "
        "shown.recommendation_id WHERE recommendations.user_id = :user ORDER BY shown.recommendation_id, shown.ranks"
    ),
}
"""By table, what belongs to a user. Tables of moard's own hold none."""


async def records_of(url: str, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each table that is there, JSON-able; none for a user the backend does not know.

    Raises ``StoreUnavailable``.
    """
    try:
        octets = uuid.UUID(user_id).bytes
    except ValueError:
        return {}
    sessions = SqlSessions(url, _DEADLINE_S)
    try:
        async with sessions.session() as connection:
            tables = await connection.run_sync(_tables)
            if "users" not in tables:
                return {}
            found = await connection.execute(text("SELECT id FROM users WHERE uuid = :uuid"), {"uuid": octets})
            if (number := found.scalar_one_or_none()) is None:
                return {}
            rows = {}
            for table, query in _OF_USER.items():
                if table in tables:
                    rows[table] = [_plain(row) for row in await connection.execute(text(query), {"user": number})]
            return rows
    finally:
        await sessions.close()


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def _plain(row: Row[Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row._mapping.items()}


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value
