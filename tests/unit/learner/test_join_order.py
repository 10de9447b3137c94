"""Any order within the displacement bound, with any repetition, gives the rows of a straightforward joiner."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.events.schema import Event, Impression, Interaction
from libs.rl.rewards import is_choice, terms_of
from libs.rl.transitions import RowChange
from services.learner.attribution import Arrival, Attribution
from services.learner.windows import JoinLimits, JoinRules, Windows
from tests.builders import NOW_MS, impression, interaction
from tests.unit.learner.rows import Row, amend, rows_of

WINDOWS = Windows(click_s=60, dwell_s=120, horizon_s=90, displacement_s=20)
LIMITS = JoinLimits()
SPAN_S = 400
FAR_MS = NOW_MS + 10_000_000


def reference(events: list[Event]) -> dict[str, Row]:
    """Join with everything at hand: no order, no deadlines, no memory bounds."""
    unique = {event.event_id: event for event in events}.values()
    shown = sorted((e for e in unique if isinstance(e, Impression)), key=lambda e: (e.timestamp_ms or 0, e.event_id))
    rows = {e.event_id: Row(e.slate) for e in shown}
    for user_id in {e.user_id for e in shown}:
        story = [e for e in shown if e.user_id == user_id]
        rows[story[-1].event_id].closed = (None, 0.0)
        for earlier, later in pairwise(story):
            gap_s = ((later.timestamp_ms or 0) - (earlier.timestamp_ms or 0)) / 1000
            goes_on = gap_s <= WINDOWS.horizon_s
            rows[earlier.event_id].closed = (later.event_id, gap_s) if goes_on else (None, 0.0)
    for event in unique:
        if isinstance(event, Interaction):
            terms = terms_of(event.kind, event.dwell_ms, event.ratio, event.value)
            owner = owner_of(event, shown)
            if owner is not None:
                content_id = owner.slate[0] if event.content_id is None else event.content_id
                amend(rows[owner.event_id], content_id, terms, is_choice(event.kind))
            elif is_choice(event.kind) and event.content_id is not None:
                rows[f"organic:{event.event_id}"] = Row((event.content_id,), {event.content_id: terms})
    return rows


def owner_of(event: Interaction, shown: list[Impression]) -> Impression | None:
    mine = [e for e in shown if e.user_id == event.user_id]
    if event.impression_id is not None:
        named = [e for e in mine if e.event_id == event.impression_id]
        return named[0] if named and event.content_id in (None, *named[0].slate) else None
    at_ms = event.timestamp_ms or 0
    reach_ms = WINDOWS.of(event.kind)
    fitting = [
        e
        for e in mine
        if event.content_id in e.slate and (e.timestamp_ms or 0) <= at_ms <= (e.timestamp_ms or 0) + reach_ms
    ]
    return fitting[-1] if fitting else None


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[int, Event]]:
    """Events with the append times that a broker gave them, each displaced by less than the bound, some repeated."""
    events: list[Event] = [
        impression(
            draw(st.sampled_from("ab")),
            tuple(draw(st.permutations(range(1, 5)))[:2]),
            event_id=f"i{number}",
            timestamp_ms=NOW_MS + 1000 * draw(st.integers(0, SPAN_S)),
        )
        for number in range(draw(st.integers(1, 7)))
    ]
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["click", "view", "like", "hide", "reward"]))
        named = draw(st.sampled_from([None, *events[:7], None]))
        at_s = draw(st.integers(0, SPAN_S))
        if named is not None:  # a client that names an impression answers it within its window
            at_s = ((named.timestamp_ms or 0) - NOW_MS) // 1000 + draw(st.integers(0, 59))
        whole = kind == "reward" and isinstance(named, Impression) and draw(st.booleans())
        events.append(
            interaction(
                named.user_id if isinstance(named, Impression) else draw(st.sampled_from("ab")),
                None if whole else draw(st.integers(1, 4)),
                kind,
                event_id=f"x{number}",
                impression_id=named.event_id if isinstance(named, Impression) else None,
                dwell_ms=draw(st.integers(0, 90_000)) if kind == "view" else None,
                value=draw(st.sampled_from([-1.0, 0.5])) if kind == "reward" else None,
                timestamp_ms=NOW_MS + 1000 * at_s,
            )
        )
    delayed = st.integers(0, int(1000 * WINDOWS.displacement_s) - 1)
    log = [((event.timestamp_ms or 0) + draw(delayed), event) for event in events]
    log += [(append_ms + draw(delayed), event) for append_ms, event in log if draw(st.integers(0, 4)) == 0]
    return sorted(log, key=lambda entry: entry[0])


def changes_of(
    log: list[tuple[int, Event]], restart_at: int | None = None, limits: JoinLimits = LIMITS
) -> tuple[list[RowChange], Attribution]:
    rules = JoinRules(windows=WINDOWS, limits=limits)
    attribution = Attribution(rules)
    changes: list[RowChange] = []
    for index, (append_ms, event) in enumerate(log):
        if index == restart_at:
            arrays, meta = attribution.state()
            attribution = Attribution(rules)
            attribution.restore(arrays, meta)
        changes += attribution.observe([Arrival(0, append_ms, event)])
    return changes + attribution.advance({0: FAR_MS}), attribution


def join(log: list[tuple[int, Event]]) -> tuple[dict[str, Row], Attribution]:
    changes, attribution = changes_of(log)
    return rows_of(changes), attribution


@settings(max_examples=400, deadline=None)
@given(stories())
def test_any_order_within_the_bound_gives_the_rows_of_a_joiner_that_sees_everything(
    log: list[tuple[int, Event]],
) -> None:
    rows, attribution = join(log)

    assert rows == reference([event for _, event in log])
    received = sum(isinstance(event, Interaction) for _, event in log)
    assert sum(attribution.outcomes().values()) == received
    assert attribution.held == 0
    assert attribution.open_impressions == 0


tight = st.builds(JoinLimits, open_impressions=st.integers(1, 3), user_impressions=st.integers(1, 3))


@settings(max_examples=300, deadline=None)
@given(stories(), st.data(), st.one_of(st.just(LIMITS), tight))
def test_a_restart_anywhere_changes_nothing_not_even_an_order(
    log: list[tuple[int, Event]], data: st.DataObject, limits: JoinLimits
) -> None:
    changes, attribution = changes_of(log, limits=limits)
    again, restarted = changes_of(log, data.draw(st.integers(0, len(log) - 1)), limits)

    assert again == changes
    assert restarted.outcomes() == attribution.outcomes()
    assert restarted.tally == attribution.tally


@settings(max_examples=100, deadline=None)
@given(stories())
def test_clients_without_clocks_join_by_append_time(log: list[tuple[int, Event]]) -> None:
    bare = [(append_ms, replace(event, timestamp_ms=None)) for append_ms, event in log]
    stamped: dict[str, Event] = {}
    for append_ms, event in bare:
        stamped.setdefault(event.event_id, replace(event, timestamp_ms=append_ms))

    rows, _ = join(bare)

    # Without a window in which to name it, an interaction may come before its impression and be matched all the same.
    assert rows == reference(list(stamped.values()))
