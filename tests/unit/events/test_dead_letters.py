import pytest

from libs.adapters.telemetry import DEAD_LETTER_REASONS
from libs.errors import BadEvent
from libs.events.codec import decode_event
from libs.events.dead_letters import MAX_VALUE_BYTES, MEANINGS, TRUNCATED_FROM, dead_letter
from libs.events.topics import EVENTS, Origin


def test_a_dead_letter_keeps_the_bytes_and_says_where_from_and_why() -> None:
    value = b'{"type":"interaction","schema":1,"user_id":"u","kind":"clack"}'
    with pytest.raises(BadEvent) as caught:
        decode_event(value, Origin(EVENTS, 2, 17))
    origin = Origin(EVENTS, 2, 17)
    key, kept, headers = dead_letter(b"u", value, (("trace", b"1"),), origin, 1_750_000_000_000, caught.value)
    assert (key, kept) == (b"u", value)
    assert headers[0] == ("trace", b"1")
    assert dict(headers[1:]) == {
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
    assert set(dict(headers[1:])) == set(MEANINGS) - {TRUNCATED_FROM}
    assert caught.value.reason in DEAD_LETTER_REASONS


def test_whatever_the_record_said_its_dead_letter_fits_a_broker() -> None:
    error = BadEvent("field", "d" * 500_000, "f" * 500_000)
    huge = b"x" * 1_048_000
    for key, value, own in ((huge, None, ()), (None, huge, ()), (b"k", b"v", (("h", huge),))):
        letter = dead_letter(key, value, own, Origin(EVENTS, 0, 0), 0, error)
        headers = sum(len(name) + len(text) for name, text in letter.headers)
        assert len(letter.key or b"") + len(letter.value or b"") + headers < 1_048_576 - 20_000


def test_a_value_that_would_not_fit_is_cut_and_says_so() -> None:
    error = BadEvent("oversize", "too long")
    for length, said in ((MAX_VALUE_BYTES, None), (MAX_VALUE_BYTES + 1, b"1000001")):
        letter = dead_letter(b"k", b"x" * length, (), Origin(EVENTS, 0, 0), 0, error)
        assert len(letter.value or b"") == MAX_VALUE_BYTES
        assert dict(letter.headers).get(TRUNCATED_FROM) == said
