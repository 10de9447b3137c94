"""What a failure of the database says, and what it keeps to itself."""

import pytest
from sqlalchemy import text

from libs.adapters.sql_sessions import SqlSessions
from libs.errors import StoreUnavailable


async def test_a_failure_names_its_kind_and_no_value_of_the_statement() -> None:
    sessions = SqlSessions("sqlite+aiosqlite://", deadline_s=3)
    with pytest.raises(StoreUnavailable, match="did not answer: OperationalError") as failed:
        async with sessions.session() as connection:
            await connection.execute(text("SELECT * FROM nowhere WHERE digest = :digest"), {"digest": "hunter2"})
    await sessions.close()
    assert "hunter2" not in str(failed.value)
