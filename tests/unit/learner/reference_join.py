"""The join, written plainly from its specification (streaming.md §4, rl.md §3): every event is known from the start.

No deadlines, no order of arrival, no memory bounds, nothing incremental: for each question all events are looked
through again. It says what the rows are once nothing more comes, and which impression each interaction belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.events.event_time import event_time_ms
from libs.events.schema import Erasure, Impression, Interaction
from libs.rl.rewards import terms_of
from services.learner.attribution import Arrival
from tests.unit.learner.rows import Row


@dataclass(frozen=True)
class Spans:
    """How long after an impression something still belongs to it, in ms."""

    click: int
    others: int
    horizon: int


@dataclass(frozen=True)
class At:
    """An event, and when it happened."""

    ms: int
    event: Impression | Interaction


def reference_join(log: Sequence[Arrival], spans: Spans, require_seen: bool = False) -> dict[str, Row]:
    """Return the rows by id: one for each impression, and one for each choice that belongs to none."""
    events = _once(log)
    impressions = [at for at in events if isinstance(at.event, Impression)]
    interactions = [at for at in events if isinstance(at.event, Interaction)]
    owners = {at.event.event_id: _owner(at, impressions, spans) for at in interactions}
    rows: dict[str, Row] = {}
    for shown in impressions:
        own = [at for at in interactions if owners[at.event.event_id] is shown]
        rows[shown.event.event_id] = _row(shown, own, impressions, spans, require_seen)
    for alone in interactions:
        event = alone.event
        assert isinstance(event, Interaction)
        if owners[event.event_id] is None and event.kind in ("click", "like") and event.content_id is not None:
            rows[f"organic:{event.event_id}"] = Row((event.content_id,), {event.content_id: _terms(event)})
    return rows


def _once(log: Sequence[Arrival]) -> list[At]:
    """Drop what was sent again: an event id counts where it was appended first."""
    found: dict[str, At] = {}
    for _, append_ms, event in sorted(log, key=lambda arrival: arrival.append_ms):
        if event.event_id not in found and not isinstance(event, Erasure):
            found[event.event_id] = At(event_time_ms(event.timestamp_ms, event.source, append_ms)[0], event)
    return list(found.values())


def _owner(at: At, impressions: Sequence[At], spans: Spans) -> At | None:
    """Return the impression that an interaction names; without a name, the latest that may have led to it."""
    event = at.event
    assert isinstance(event, Interaction)
    fitting: list[At] = []
    for shown in impressions:
        assert isinstance(shown.event, Impression)
        if shown.event.user_id != event.user_id:
            continue
        if event.content_id is not None and event.content_id not in shown.event.slate:
            continue
        if event.impression_id is not None and event.impression_id != shown.event.event_id:
            continue
        if event.impression_id is None:
            span_ms = spans.click if event.kind == "click" else spans.others
            if event.content_id is None or not shown.ms <= at.ms <= shown.ms + span_ms:
                continue
        fitting.append(shown)
    return max(fitting, key=_place, default=None)


def _row(shown: At, own: Sequence[At], impressions: Sequence[At], spans: Spans, require_seen: bool) -> Row:
    assert isinstance(shown.event, Impression)
    row = Row(shown.event.slate)
    for at in own:
        event = at.event
        assert isinstance(event, Interaction)
        content_id = shown.event.slate[0] if event.content_id is None else event.content_id
        for term, value in _terms(event).items():
            held = row.terms.setdefault(content_id, {}).get(term, 0.0)
            row.terms[content_id][term] = value if (abs(value), value) > (abs(held), held) else held
        if event.kind in ("click", "like"):
            row.chosen.add(content_id)
    kinds = {at.event.kind for at in own if isinstance(at.event, Interaction)}
    if not require_seen or kinds & {"click", "like", "seen"}:
        row.closed = _ending(shown, impressions, spans)
    return row


def _ending(shown: At, impressions: Sequence[At], spans: Spans) -> tuple[str | None, float]:
    """Return the user's next impression and the seconds until then, or that the story ended here."""
    later = [at for at in impressions if at.event.user_id == shown.event.user_id and _place(at) > _place(shown)]
    following = min(later, key=_place, default=None)
    if following is None or following.ms - shown.ms > spans.horizon:
        return None, 0.0
    return following.event.event_id, (following.ms - shown.ms) / 1000


def _terms(event: Interaction) -> dict[str, float]:
    return terms_of(event.kind, event.dwell_ms, event.ratio, event.value)


def _place(at: At) -> tuple[int, str]:
    """Order a user's impressions: by event time, then by id."""
    return at.ms, at.event.event_id
