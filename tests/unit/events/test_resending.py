"""A record sent again is the same event."""

import orjson

from libs.events.codec import decode_event, encode
from libs.events.resending import identified
from libs.events.topics import EVENTS, Origin
from tests.builders import NOW_MS, interaction

BARE = b'{"type":"interaction","user_id":"u","kind":"click","content_id":1,"page":"front"}'


def test_a_reader_of_the_copy_sees_what_a_reader_of_the_origin_saw() -> None:
    origin = Origin(EVENTS, 3, 42)
    copy = identified(BARE, origin, NOW_MS)
    at_origin, elsewhere = decode_event(BARE, origin), decode_event(copy, Origin(EVENTS, 0, 99))
    assert elsewhere.event_id == at_origin.event_id
    assert elsewhere.timestamp_ms == NOW_MS
    assert orjson.loads(copy)["page"] == "front"  # what this version does not know travels along
    assert identified(copy, Origin(EVENTS, 0, 99), NOW_MS + 5) == copy


def test_what_says_who_it_is_stays_as_it_was_to_the_byte() -> None:
    value = b" " + encode(interaction(timestamp_ms=7))
    assert identified(value, Origin(EVENTS, 3, 42), NOW_MS) == value


def test_a_time_that_is_not_known_is_not_invented() -> None:
    assert "timestamp_ms" not in orjson.loads(identified(BARE, Origin(EVENTS, 3, 42), -1))
