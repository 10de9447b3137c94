"""What an export finds of a user in the backend's tables, in MariaDB and SQLite alike."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.adapters.user_records import records_of
from libs.errors import StoreUnavailable
from tests.contract.catalogue_stand import create_legacy_tables, execute
from tests.contract.conftest import fresh_database

ANN, BOB = UUID(int=1), UUID(int=2)
AT = "2026-01-02 03:04:05"


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.stack)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with fresh_database(request, tmp_path) as url:
        yield url


async def fill(url: str) -> None:
    await create_legacy_tables(url)
    statements: list[tuple[str, dict[str, Any]]] = []
    for number, uuid in ((1, ANN), (2, BOB)):
        statements += [
            ("INSERT INTO users VALUES (:id, :uuid)", {"id": number, "uuid": uuid.bytes}),
            (
                "INSERT INTO recommendations (id, user_id, query, recommended_at) VALUES (:id, :user, 'q', :at)",
                {"id": 10 * number, "user": number, "at": AT},
            ),
            ("INSERT INTO recommendation_contents VALUES (:rec, 7, 2)", {"rec": 10 * number}),
            ("INSERT INTO recommendation_contents VALUES (:rec, 8, 1)", {"rec": 10 * number}),
            (
                "INSERT INTO user_logs (id, user_id, event_type, content_id, recommendation_id, ratio, timestamp)"
                " VALUES (:id, :user, 'VIEW', 7, :rec, 0.5, :at)",
                {"id": 100 * number, "user": number, "rec": 10 * number, "at": AT},
            ),
        ]
    await execute(url, *statements)


async def test_a_user_gets_all_of_their_rows_and_nobody_elses(url: str) -> None:
    await fill(url)
    found = await records_of(url, str(ANN))
    assert {table: len(rows) for table, rows in found.items()} == {
        "users": 1,
        "user_logs": 1,
        "recommendations": 1,
        "recommendation_contents": 2,
    }
    assert found["users"] == [{"id": 1, "uuid": str(ANN)}]
    (log,) = found["user_logs"]
    assert (log["id"], log["user_id"], log["event_type"], log["ratio"]) == (100, 1, "VIEW", 0.5)
    assert log["timestamp"].replace(" ", "T").startswith("2026-01-02T03:04:05")
    assert found["recommendations"][0]["id"] == 10
    assert [(row["recommendation_id"], row["content_id"]) for row in found["recommendation_contents"]] == [
        (10, 8),
        (10, 7),
    ]


@pytest.mark.parametrize("user_id", [str(UUID(int=3)), "ann", "' OR 1=1 --"])
async def test_a_user_the_backend_does_not_know_has_none(url: str, user_id: str) -> None:
    await fill(url)
    assert await records_of(url, user_id) == {}


async def test_a_database_without_the_tables_holds_none(url: str) -> None:
    assert await records_of(url, str(ANN)) == {}
    await execute(url, ("CREATE TABLE users (id BIGINT PRIMARY KEY, uuid BINARY(16) NOT NULL)", {}))
    await execute(url, ("INSERT INTO users VALUES (1, :uuid)", {"uuid": ANN.bytes}))
    assert await records_of(url, str(ANN)) == {"users": [{"id": 1, "uuid": str(ANN)}]}


async def test_a_database_that_is_away_is_told_and_not_taken_for_an_empty_one() -> None:
    with pytest.raises(StoreUnavailable):
        await records_of("mysql+asyncmy://root@127.0.0.1:1/moard", str(ANN))
