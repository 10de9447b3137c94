"""The wire format, pinned: bytes that were written once have to be read for as long as a topic keeps them."""

import base64
import json
from pathlib import Path

import pytest

from libs.errors import BadEvent
from libs.events.codec import decode_content, decode_event, encode
from libs.events.schema import Content, Erasure, Impression, Interaction
from libs.events.topics import CONTENTS

GOLDEN = Path(__file__).parents[2] / "golden"

AT_MS = 1_750_000_000_000
# One for each line of wire.jsonl.
DOCUMENTS: list[Impression | Interaction | Erasure | Content] = [
    Impression(
        event_id="0b6b1f0e5c0d4c6f8a8e1f6d2a7c9b11",
        user_id="7f9c24e8-3b1e-4c66-9d1f-0b8f1c3f5a10",
        slate=(42, 7),
        history=(3, 9),
        history_age_s=(12.5, 3600.0),
        context={"hour": 9, "device": "phone", "도시": "서울"},
        candidates=(7, 42, 11),
        scores=(0.25, 0.5, -0.125),
        log_propensities=(-0.75, -1.5),
        policy="value",
        arm="policy",
        temperature=0.25,
        epsilon=0.02,
        snapshot_version=1_750_000_000_001,
        recommendation_id="rec-1",
        timestamp_ms=AT_MS,
    ),
    Impression(
        event_id="i-3",
        user_id="u",
        slate=(42, 7),
        candidates=(7, 42),
        scores=(0.25, 0.5),
        log_propensities=(-0.75, -0.75),
        choice=(-1.5, 0.0),
        advantage=(1.25, -0.5),
        value=3.5,
        continuation=0.0,
        policy="value",
        arm="policy",
        temperature=0.25,
        epsilon=0.02,
        snapshot_version=1_750_000_000_001,
    ),
    Impression(event_id="i-2", user_id="u", slate=(9_223_372_036_854_775_807,), source="backfill"),
    Interaction(
        event_id="e-1", user_id="사용자 1", kind="click", content_id=42, impression_id="i-1", timestamp_ms=AT_MS
    ),
    Interaction(event_id="e-2", user_id="u", kind="view", content_id=42, dwell_ms=15_000, ratio=0.5),
    Interaction(
        event_id="e-3", user_id="u", kind="like", content_id=42, source="backfill", timestamp_ms=880_000_000_000
    ),
    Interaction(event_id="e-4", user_id="u", kind="hide", content_id=0),
    Interaction(event_id="e-5", user_id="u", kind="reward", impression_id="i-1", value=-0.5, recommendation_id="rec-1"),
    Interaction(event_id="e-6", user_id="u", kind="seen", impression_id="i-1", positions=(0, 1)),
    Erasure(event_id="x-1", user_id="사용자 1", timestamp_ms=AT_MS),
    Erasure(event_id="x-2", user_id="u"),
    Content(
        content_id=42,
        title='A "title"',
        description="줄 1\nline 2 🙂",
        embedding=(0.1, -1.0, 0.0),
        vector_version="d2v-1",
        kind="film",
        hidden=True,
        published_at_ms=AT_MS,
    ),
    Content(content_id=1),
]

WIRE = (GOLDEN / "wire.jsonl").read_bytes().splitlines()
BAD = [json.loads(line) for line in (GOLDEN / "bad.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize(("document", "value"), list(zip(DOCUMENTS, WIRE, strict=True)))
def test_a_document_is_written_and_read_as_it_always_was(document: object, value: bytes) -> None:
    if isinstance(document, Content):
        assert (encode(document), decode_content(value)) == (value, document)
    else:
        assert isinstance(document, (Impression, Interaction, Erasure))
        assert (encode(document), decode_event(value)) == (value, document)


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case['reason']}-{case['field']}")
def test_a_bad_document_is_refused_for_its_reason(case: dict[str, str]) -> None:
    value = base64.b64decode(case["base64"]) if "base64" in case else case["value"].encode()
    decode = decode_content if case["topic"] == CONTENTS else decode_event
    with pytest.raises(BadEvent) as caught:
        decode(value)
    assert (caught.value.reason, caught.value.field) == (case["reason"], case["field"])
    if case["field"]:
        assert caught.value.detail.startswith(f"{case['field']}: ")
