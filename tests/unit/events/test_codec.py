import dataclasses
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.errors import BadEvent
from libs.events import schema
from libs.events.codec import MAX_EVENT_BYTES, decode_content, decode_event, encode
from libs.events.schema import Content, Impression, Interaction
from libs.events.topics import EVENTS, Origin
from tests.builders import content, impression, interaction

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
IDS = st.integers(0, 2**63 - 1)
NUMBERS = st.floats(-1e15, 1e15)
IDENTIFIERS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
TIMES = st.none() | st.integers(0, 253_402_300_799_000)


@st.composite
def impressions(draw: st.DrawFn) -> Impression:
    candidates = draw(st.lists(IDS, unique=True, min_size=1, max_size=20))
    slate = candidates[: draw(st.integers(1, len(candidates)))]
    history = draw(st.lists(IDS, max_size=30))
    falling = sorted(draw(st.lists(st.floats(-1e6, 0), min_size=len(slate), max_size=len(slate))), reverse=True)
    return Impression(
        event_id=draw(IDENTIFIERS),
        user_id=draw(TEXT.filter(bool)),
        slate=tuple(slate),
        history=tuple(history),
        history_age_s=tuple(draw(st.lists(st.floats(0, 1e15), min_size=len(history), max_size=len(history)))),
        context=draw(st.dictionaries(TEXT.filter(bool), NUMBERS | TEXT, max_size=5)),
        candidates=draw(st.sampled_from([(), tuple(candidates)])),
        log_propensities=draw(st.sampled_from([(), tuple(falling)])),
        choice=tuple(draw(st.sampled_from([[], [draw(NUMBERS) for _ in slate]]))),
        advantage=tuple(draw(st.sampled_from([[], [draw(NUMBERS) for _ in slate]]))),
        value=draw(st.none() | NUMBERS),
        continuation=draw(st.none() | NUMBERS),
        policy=draw(IDENTIFIERS),
        arm=draw(st.sampled_from(["policy", "uniform", "greedy", "external"])),
        temperature=draw(st.floats(0, 100)),
        epsilon=draw(st.floats(0, 1)),
        snapshot_version=draw(IDS),
        recommendation_id=draw(st.none() | IDENTIFIERS),
        timestamp_ms=draw(TIMES),
        source=draw(st.sampled_from(["live", "backfill"])),
    )


INTERACTIONS = st.builds(
    Interaction,
    event_id=IDENTIFIERS,
    user_id=TEXT.filter(bool),
    kind=st.sampled_from(["click", "view", "like", "hide", "reward", "seen"]),
    content_id=IDS,
    impression_id=IDENTIFIERS,
    recommendation_id=st.none() | IDENTIFIERS,
    dwell_ms=st.none() | st.integers(0, 2**53),
    ratio=st.none() | st.floats(0, 1),
    value=NUMBERS,
    positions=st.lists(st.integers(0, 49), min_size=1, max_size=50).map(tuple),
    timestamp_ms=TIMES,
    source=st.sampled_from(["live", "backfill"]),
    type=st.just("interaction"),
    schema=st.just(1),
)
CONTENTS = st.builds(
    Content,
    content_id=IDS,
    title=TEXT,
    description=TEXT,
    embedding=st.none() | st.lists(NUMBERS, max_size=8).map(tuple),
    vector_version=TEXT,
    kind=TEXT,
    hidden=st.booleans(),
    published_at_ms=TIMES,
    type=st.just("content"),
    schema=st.just(1),
)


@given(impressions() | INTERACTIONS)
def test_an_event_survives_the_wire(event: Impression | Interaction) -> None:
    assert decode_event(encode(event)) == event


@given(CONTENTS)
def test_a_content_survives_the_wire(document: Content) -> None:
    assert decode_content(encode(document)) == document


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 100_000)
@example(b'{"a":' * 5_000)
@example(b"9" * 5_000)
@example(b'{"user_id":"\\ud800"}')
@example(b"NaN")
def test_bytes_that_are_no_event_raise_bad_event_and_nothing_else(value: bytes) -> None:
    for decode in (decode_event, decode_content):
        with pytest.raises(BadEvent) as caught:
            decode(value)
        assert caught.value.reason == "json" or value.strip()[:1] == b"{"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([item.name for cls in (Impression, Interaction, Content) for item in dataclasses.fields(cls)])


@given(base=impressions() | INTERACTIONS | CONTENTS, damage=st.dictionaries(FIELDS, JSON, min_size=1, max_size=4))
def test_whatever_a_field_holds_the_outcome_is_a_document_or_bad_event(base: Any, damage: dict[str, Any]) -> None:
    value = orjson.dumps({**orjson.loads(encode(base)), **damage})
    for decode in (decode_event, decode_content):
        try:
            document = decode(value)
        except BadEvent as error:
            verdict = error.reason
        else:
            verdict = "good" if decode(encode(document)) == document else "changed on the way"
        assert verdict in {"good", "schema", "field", "type"}


def test_defaults_are_left_out_of_the_wire() -> None:
    value = encode(Interaction(event_id="e", user_id="u", kind="click", content_id=7))
    assert value == b'{"type":"interaction","schema":1,"event_id":"e","user_id":"u","kind":"click","content_id":7}'


def test_fields_of_a_newer_producer_are_ignored() -> None:
    event = interaction()
    value = orjson.dumps({**orjson.loads(encode(event)), "mood": {"deep": [1, 2]}})
    assert decode_event(value) == event


def test_null_counts_as_absent() -> None:
    event = Interaction(event_id="e", user_id="u", kind="click", content_id=7)
    absent = {"positions": None, "source": None, "impression_id": None, "schema": None}
    assert decode_event(orjson.dumps({**orjson.loads(encode(event)), **absent})) == event


def test_an_event_without_an_id_is_named_after_its_origin() -> None:
    value = b'{"type":"interaction","schema":1,"user_id":"u","kind":"click","content_id":7}'
    first, again = (decode_event(value, Origin(EVENTS, 0, 5)) for _ in range(2))
    assert first == again
    assert first.event_id != decode_event(value, Origin(EVENTS, 0, 6)).event_id
    with pytest.raises(BadEvent, match="event_id: is required"):
        decode_event(value)


def test_an_id_that_was_given_wins_over_the_origin() -> None:
    assert decode_event(encode(interaction(event_id="mine")), Origin(EVENTS, 0, 5)).event_id == "mine"


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, [1]])
def test_an_unknown_version_is_refused_before_anything_else_is_read(version: object) -> None:
    with pytest.raises(BadEvent) as caught:
        decode_event(orjson.dumps({"type": "something newer", "schema": version}))
    assert (caught.value.reason, caught.value.field) == ("schema", "schema")


def test_a_record_of_900_kb_is_oversize() -> None:
    value = encode(content(description="x" * 900_000))
    with pytest.raises(BadEvent) as caught:
        decode_content(value)
    assert caught.value.reason == "oversize"


def test_the_largest_documents_that_obey_the_limits_fit() -> None:
    number = -0.00012345678901234567  # 24 characters, the longest that orjson writes
    ids = tuple(range(2**63 - 1 - schema.MAX_CANDIDATES, 2**63 - 1))
    biggest = Impression(
        event_id="e" * 128,
        user_id="\x01" * 128,
        slate=ids[: schema.MAX_SLATE],
        history=ids[:30],
        history_age_s=(-number,) * 30,
        context={"\x01" * 60 + f"{i:04}": "\x01" * 128 for i in range(schema.MAX_CONTEXT)},
        candidates=ids,
        scores=(number,) * len(ids),
        log_propensities=(number,) * schema.MAX_SLATE,
        choice=(number,) * schema.MAX_SLATE,
        advantage=(number,) * schema.MAX_SLATE,
        value=number,
        continuation=number,
        policy="p" * 128,
    )
    text = content(title="\x01" * 2_000, description="\x01" * 20_000, embedding=(number,) * 4_096)
    assert decode_event(encode(biggest)) == biggest
    assert decode_content(encode(text)) == text
    assert max(len(encode(biggest)), len(encode(text))) <= MAX_EVENT_BYTES


def test_a_record_without_a_value_is_a_dead_letter() -> None:
    with pytest.raises(BadEvent, match="no value"):
        decode_event(None)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_hold_is_refused_when_encoding(number: float) -> None:
    with pytest.raises(BadEvent) as caught:
        encode(impression(scores=(0.5, number, 0.1)))
    assert caught.value.field == "scores"
    with pytest.raises(BadEvent, match="value"):
        encode(interaction(kind="reward", value=number))
    with pytest.raises(BadEvent, match="context"):
        encode(impression(context={"age": number}))
    with pytest.raises(BadEvent, match="continuation"):
        encode(impression(continuation=number))


def test_the_word_null_in_a_text_is_only_a_word() -> None:
    document = content(title="null", description="a null b")
    assert decode_content(encode(document)) == document


def test_rounding_in_log_propensities_is_forgiven() -> None:
    event = impression(slate=(1, 2), log_propensities=(-1.0, -1.0 + 1e-9), arm="policy")
    assert decode_event(encode(event)) == event
