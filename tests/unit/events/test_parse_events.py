import orjson
import pytest

from libs.errors import BadEvent
from libs.events.codec import MAX_BATCH_EVENTS, Rejection, decode_event, encode, parse_events
from libs.events.schema import Event, Interaction
from tests.builders import impression, interaction

CLICK = {"type": "interaction", "user_id": "u", "kind": "click", "content_id": 7}


def test_one_event_is_a_batch_of_one() -> None:
    event = interaction()
    assert parse_events(encode(event)) == ([(0, event)], [])


def test_a_batch_keeps_its_order() -> None:
    events: list[Event] = [interaction(), impression(), interaction(user_id="other")]
    body = b'{"events":[' + b",".join(encode(event) for event in events) + b"]}"
    assert parse_events(body) == (list(enumerate(events)), [])


def test_id_and_schema_may_be_left_out() -> None:
    good, bad = parse_events(orjson.dumps({"events": [CLICK, CLICK]}))
    assert bad == []
    ids = {event.event_id for _, event in good}
    assert len(ids) == 2
    for _, event in good:
        assert isinstance(event, Interaction)
        assert event.schema == 1
        assert decode_event(encode(event)) == event


def test_bad_events_come_back_by_index_and_the_good_ones_stay() -> None:
    events = [CLICK, {**CLICK, "content_id": "7"}, "click", {**CLICK, "kind": "seen"}, {**CLICK, "schema": 2}, CLICK]
    good, bad = parse_events(orjson.dumps({"events": events}))
    assert [index for index, _ in good] == [0, 5]
    assert [(item.index, item.field) for item in bad] == [
        (1, "content_id"),
        (2, ""),
        (3, "impression_id"),
        (4, "schema"),
    ]
    assert bad[2] == Rejection(3, "impression_id", "impression_id: an interaction of kind 'seen' needs impression_id")


def test_one_bad_event_is_a_rejection_too() -> None:
    good, bad = parse_events(b'{"type":"interaction","kind":"click"}')
    assert good == []
    assert [(item.index, item.field) for item in bad] == [(0, "user_id")]


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"", "json", ""),
        (b"{", "json", ""),
        (b"[]", "json", ""),
        (b'"text"', "json", ""),
        (b"\xff", "json", ""),
        (b'{"events":[{"value":NaN}]}', "json", ""),
        (b'{"events":[]}', "field", "events"),
        (b'{"events":{}}', "field", "events"),
        (b'{"events":null}', "field", "events"),
        (b'{"events":[' + b",".join([b"{}"] * (MAX_BATCH_EVENTS + 1)) + b"]}", "oversize", "events"),
    ],
)
def test_a_body_that_is_wrong_as_a_whole(body: bytes, reason: str, field: str) -> None:
    with pytest.raises(BadEvent) as caught:
        parse_events(body)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_the_largest_batch_is_accepted() -> None:
    good, bad = parse_events(orjson.dumps({"events": [CLICK] * MAX_BATCH_EVENTS}))
    assert (len(good), bad) == (MAX_BATCH_EVENTS, [])
    with pytest.raises(BadEvent):
        parse_events(orjson.dumps({"events": [CLICK, CLICK]}), max_events=1)
