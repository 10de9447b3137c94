"""DELETE /api/v1/users/{id} over the twins."""

from typing import Any
from urllib.parse import quote

import pytest

from libs.events.schema import Erasure
from services.ingest.answers import ErasureAnswer, Problem
from tests.unit.ingest.stand import Stand


def click(**fields: Any) -> dict[str, Any]:
    return {"type": "interaction", "kind": "click", "user_id": "ann", "content_id": 1} | fields


@pytest.mark.parametrize("user_id", ["ann", "사용자 1", "a/b c?d", "a\nb\n"])
async def test_the_request_is_in_the_log_after_all_that_came_before(stand: Stand, user_id: str) -> None:
    await stand.post(click(user_id=user_id))

    answer = await stand.client.delete(f"/api/v1/users/{quoted(user_id)}")

    assert answer.status_code == 202
    given = ErasureAnswer.model_validate(answer.json())
    *_, last = stand.logged()
    assert isinstance(last, Erasure)
    assert (last.user_id, last.event_id) == (user_id, given.event_id)
    (record,) = [each for each in stand.log.records("moard.events") if b"erasure" in (each.value or b"")]
    assert (record.partition, record.offset + 1) == (given.partition, given.until)
    assert record.key == user_id.encode()


async def test_the_history_is_empty_before_the_answer(stand: Stand) -> None:
    await stand.post(click())
    await stand.client.delete("/api/v1/users/ann")
    assert await stand.history.recent("ann", 10) == []
    assert not await stand.history.seen("ann")


async def test_a_broker_that_is_away_is_503(stand: Stand) -> None:
    stand.log.available = False
    answer = await stand.client.delete("/api/v1/users/ann")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "again" in Problem.model_validate(answer.json()).detail


async def test_what_is_no_user_id_is_422(stand: Stand) -> None:
    answer = await stand.client.delete(f"/api/v1/users/{'x' * 129}")
    assert answer.status_code == 422
    assert answer.json()["field"] == "user_id"
    assert stand.logged() == []


async def test_nobody_erases_through_the_door_of_events(stand: Stand) -> None:
    answer = await stand.post({"type": "erasure", "user_id": "ann"})
    assert answer.status_code == 422
    assert "DELETE /api/v1/users/" in answer.json()["detail"]
    assert stand.logged() == []


def quoted(user_id: str) -> str:
    return quote(user_id, safe="")
