"""POST /api/v1/events, every status."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from libs.events.codec import decode_event
from libs.events.schema import Impression
from libs.events.topics import EVENTS, partition_of
from services.ingest.answers import Accepted, Problem, RejectedEvents, Unacknowledged
from tests.builders import interaction, record
from tests.unit.ingest.stand import Stand


def click(user_id: str = "ann", content_id: object = 7, **fields: Any) -> dict[str, Any]:
    return {"type": "interaction", "user_id": user_id, "kind": "click", "content_id": content_id, **fields}


async def visits(stand: Stand, user_id: str = "ann") -> list[int]:
    return [visit.content_id for visit in await stand.history.recent(user_id, 10)]


async def test_one_event_is_kept_and_moves_the_history_before_the_answer(stand: Stand) -> None:
    answer = await stand.post(click(event_id="e-1"))
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 1, "event_ids": ["e-1"], "errors": []}
    (record,) = stand.log.records(EVENTS)
    assert record.key == b"ann"
    assert record.partition == partition_of(b"ann", stand.settings.events_partitions)
    assert stand.logged()[0].event_id == "e-1"
    assert await visits(stand) == [7]
    assert stand.counted("accepted") == 1


async def test_ids_of_a_partly_bad_batch_align_with_the_good_events(stand: Stand) -> None:
    batch = [click(event_id="a"), click(content_id="seven"), click(), click("bob", event_id="d"), {"type": "bet"}]
    answer = await stand.post({"events": batch})
    assert answer.status_code == 202
    body = answer.json()
    Accepted.model_validate(body)
    first, given, last = body["event_ids"]
    assert (first, last) == ("a", "d")
    assert {event.event_id for event in stand.logged()} == {"a", given, "d"}
    assert [(error["index"], error["field"]) for error in body["errors"]] == [(1, "content_id"), (4, "type")]
    assert body["accepted"] == 3
    assert (stand.counted("accepted"), stand.counted("rejected")) == (3, 2)


async def test_impressions_are_taken_too(stand: Stand) -> None:
    shown = {"type": "impression", "event_id": "i-1", "user_id": "ann", "slate": [1, 2]}
    assert (await stand.post(shown)).status_code == 202
    assert stand.logged() == [Impression(event_id="i-1", user_id="ann", slate=(1, 2))]
    assert await visits(stand) == []
    assert await stand.history.seen("ann")


async def test_what_moves_no_history_still_makes_the_user_known(stand: Stand) -> None:
    events = [
        click("hider") | {"kind": "hide"},
        click("glancer") | {"kind": "view", "dwell_ms": stand.settings.history_min_dwell_ms - 1},
        click("reader") | {"kind": "view", "dwell_ms": stand.settings.history_min_dwell_ms},
    ]
    assert (await stand.post({"events": events})).status_code == 202
    assert [await visits(stand, user) for user in ("hider", "glancer", "reader")] == [[], [], [7]]
    assert all([await stand.history.seen(user) for user in ("hider", "glancer", "reader")])
    assert not await stand.history.seen("nobody")


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (b"{", "", "JSON"),
        (b"", "", "JSON"),
        (b"[]", "", "one event"),
        (b"7", "", "one event"),
        (b'{"events": []}', "events", "1 to 500"),
        (b'{"events": {}}', "events", "list"),
        (b'{"type": "interaction", "value": NaN}', "", "JSON"),
        (b"[" * 100_000, "", "JSON"),
        (b'{"a":' * 50_000, "", "JSON"),
        (b"\xff\xfe", "", "JSON"),
    ],
)
async def test_a_body_that_is_no_events_is_refused_as_a_whole(stand: Stand, body: bytes, field: str, says: str) -> None:
    answer = await stand.post(body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = RejectedEvents.model_validate(answer.json())
    assert (problem.field, problem.errors) == (field, [])
    assert says in problem.detail
    assert stand.log.records(EVENTS) == []


async def test_a_batch_beyond_the_limit_is_refused_and_the_limit_named(stand: Stand) -> None:
    assert (await stand.post({"events": [click()] * 500})).status_code == 202
    answer = await stand.post({"events": [click()] * 501})
    assert answer.status_code == 422
    assert "at most 500" in answer.json()["detail"]
    assert len(stand.logged()) == 500


async def test_nothing_usable_is_422_with_every_reason(stand: Stand) -> None:
    wrong = [click() | {"kind": "bet"}, click(event_id="a b"), click(content_id=None), "text", click(schema=2)]
    answer = await stand.post({"events": wrong})
    assert answer.status_code == 422
    problem = RejectedEvents.model_validate(answer.json())
    assert [(error.index, error.field) for error in problem.errors] == [
        (0, "kind"),
        (1, "event_id"),
        (2, "content_id"),
        (3, ""),
        (4, "schema"),
    ]
    assert stand.counted("rejected") == 5
    single = await stand.post(wrong[0])
    assert single.status_code == 422
    assert single.json()["field"] == "kind"
    assert "kind" in single.json()["detail"]


async def test_broker_away_names_the_ids_to_retry_with_and_the_retry_counts_once(stand: Stand) -> None:
    stand.log.available = False
    answer = await stand.post({"events": [click(), {"type": "interaction"}, click(event_id="mine")]})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    problem = Unacknowledged.model_validate(answer.json())
    assert problem.indexes == [0, 2]
    assert problem.event_ids[1] == "mine"
    assert len(problem.event_ids[0]) > 8
    assert problem.acknowledged == []
    assert [error.index for error in problem.errors] == [1]
    assert await visits(stand) == []
    assert stand.counted("unavailable") == 2

    stand.log.available = True
    retry = {"events": [click(event_id=event_id) for event_id in problem.event_ids]}
    for _ in range(2):
        assert (await stand.post(retry)).json()["event_ids"] == problem.event_ids
    assert len(await stand.history.recent("ann", 10)) == 2


async def test_partly_acknowledged_batch_says_which_is_which(stand: Stand) -> None:
    stand.producer.lost = {1}
    answer = await stand.post({"events": [click(event_id="a", content_id=1), click(event_id="b", content_id=2)]})
    assert answer.status_code == 503
    problem = Unacknowledged.model_validate(answer.json())
    assert (problem.event_ids, problem.indexes, problem.acknowledged) == (["b"], [1], ["a"])
    assert await visits(stand) == [1]
    assert (stand.counted("accepted"), stand.counted("unavailable")) == (1, 1)


async def test_the_projector_is_left_what_nobody_wrote(stand: Stand) -> None:
    stand.producer.lost = {1}
    await stand.post({"events": [click(event_id="a"), click(event_id="b")]})
    stand.producer.lost = set()
    stand.history.available = False
    await stand.post(click(event_id="c"))
    late = record(interaction("ann", 7, event_id="b", timestamp_ms=None))  # appended after its deadline
    left = await stand.own_writes.others([*stand.log.records(EVENTS), late])
    assert [decode_event(item.value).event_id for item in left] == ["c", "b"]


async def test_too_much_in_flight_is_503_before_the_body_is_read(stand: Stand) -> None:
    stand.producer.waiting = stand.settings.ingest_unacknowledged_records
    answer = await stand.post(b"not even JSON")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert Unacknowledged.model_validate(answer.json()).event_ids == []
    stand.producer.waiting -= 1
    assert (await stand.post(click())).status_code == 202


async def test_history_away_costs_no_answer_and_is_not_tried_again_at_once(stand: Stand) -> None:
    stand.history.available = False
    assert (await stand.post(click())).status_code == 202
    stand.history.available = True
    assert (await stand.post(click(content_id=8))).status_code == 202
    assert await visits(stand) == []  # resting: the projector writes both
    assert stand.registry.get_sample_value("moard_ingest_history_errors_total") == 2
    stand.now_s += 2
    assert (await stand.post(click(content_id=9))).status_code == 202
    assert await visits(stand) == [9]


@pytest.mark.parametrize("content_type", [None, "application/json", "application/json; charset=utf-8"])
async def test_json_is_taken_with_its_content_type_or_none(stand: Stand, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await stand.client.post("/api/v1/events", content=orjson.dumps(click()), headers=headers)
    assert answer.status_code == 202


async def test_year_2100_moves_nobody_into_the_future(stand: Stand) -> None:
    await stand.post({"events": [click(content_id=1, timestamp_ms=4_102_444_800_000), click(content_id=2)]})
    assert await visits(stand) in ([2, 1], [1, 2])
    newest = (await stand.history.recent("ann", 1))[0].timestamp_ms
    assert newest < 4_000_000_000_000


async def test_a_backfill_keeps_its_old_times(stand: Stand) -> None:
    await stand.post(click(timestamp_ms=874_724_710_000, source="backfill"))
    assert (await stand.history.recent("ann", 1))[0].timestamp_ms == 874_724_710_000


async def test_ten_megabytes_are_413_whether_announced_or_not(stand: Stand) -> None:
    huge = b'{"events": [' + b" " * 10_000_000 + b"]}"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(huge), 65_536):
            yield huge[start : start + 65_536]

    for content in (huge, chunks()):
        answer = await stand.client.post("/api/v1/events", content=content)
        assert answer.status_code == 413
        problem = Problem.model_validate(answer.json())
        assert str(stand.settings.ingest_body_max_bytes) in problem.detail
        assert problem.request_id == answer.headers["x-request-id"]
    assert stand.logged() == []


async def test_problems_carry_the_request_id(stand: Stand) -> None:
    answer = await stand.client.post("/api/v1/events", content=b"{", headers={"x-request-id": "r-1"})
    assert answer.json()["request_id"] == "r-1"
