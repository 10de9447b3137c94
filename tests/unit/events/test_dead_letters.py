import pytest

from libs.adapters.telemetry import DEAD_LETTER_REASONS
from libs.errors import BadEvent
from libs.events.codec import decode_event
from libs.events.dead_letters import MEANINGS, dead_letter
from libs.events.topics import EVENTS, Origin


def test_a_dead_letter_keeps_the_bytes_and_says_where_from_and_why() -> None:
    value = b'{"type":"interaction","schema":1,"user_id":"u","kind":"clack"}'
    with pytest.raises(BadEvent) as caught:
        decode_event(value, Origin(EVENTS, 2, 17))
    kept, headers = dead_letter(value, Origin(EVENTS, 2, 17), 1_750_000_000_000, caught.value)
    assert kept == value
    assert dict(headers) == {
        "moard-origin-topic": b"moard.events",
        "moard-origin-partition": b"2",
        "moard-origin-offset": b"17",
        "moard-origin-timestamp-ms": b"1750000000000",
        "moard-error": b"BadEvent",
        "moard-reason": b"field",
        "moard-field": b"kind",
        "moard-detail": b"kind: must be 'click', 'view', 'like', 'hide', 'reward' or 'seen'",
        "moard-schema": b"1",
    }
    assert set(dict(headers)) == set(MEANINGS)
    assert caught.value.reason in DEAD_LETTER_REASONS


def test_headers_stay_small_whatever_the_record_said() -> None:
    error = BadEvent("field", "d" * 500_000, "f" * 500_000)
    value, headers = dead_letter(None, Origin(EVENTS, 0, 0), 0, error)
    assert value is None
    assert sum(len(name) + len(text) for name, text in headers) < 4_000
