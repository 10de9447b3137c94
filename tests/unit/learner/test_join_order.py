"""Any order within the displacement bound, with any repetition, gives the rows of a straightforward joiner."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.events.schema import Event, Impression, Interaction
from libs.rl.transitions import Opened, RowChange, State
from services.learner.attribution import Arrival, Attribution
from services.learner.windows import JoinLimits, JoinRules, Windows
from tests.builders import NOW_MS, impression, interaction
from tests.unit.learner.reference_join import Spans, reference_join
from tests.unit.learner.rows import Row, rows_of

WINDOWS = Windows(click_s=60, dwell_s=120, horizon_s=90, displacement_s=20)
SPANS = Spans(click=60_000, others=120_000, horizon=90_000)
LIMITS = JoinLimits()
DELAY_MS = 20_000  # the bound on displacement
FAR_MS = NOW_MS + 10_000_000
YEAR_MS = 365 * 24 * 3_600_000
PARTITION = {"a": 0, "b": 1, "c": 0}

users = st.sampled_from("abc")
delays = st.integers(0, DELAY_MS - 1)


@st.composite
def shown(draw: st.DrawFn, number: int, span_s: int) -> Impression:
    return impression(
        draw(users),
        tuple(draw(st.permutations(range(1, 4)))[:2]),
        event_id=f"i{number}",
        timestamp_ms=NOW_MS + 1000 * draw(st.integers(0, span_s)),
        history=tuple(draw(st.lists(st.integers(1, 4), max_size=2))),
        context={"hour": float(draw(st.integers(0, 23)))},
    )


@st.composite
def done(draw: st.DrawFn, number: int, led_by: Impression, latest_s: int) -> Interaction:
    """An interaction of any kind; it may contradict the impression that led to it, overtake it, or come late."""
    kind = draw(st.sampled_from(["click", "view", "like", "hide", "reward", "seen"]))
    named = kind == "seen" or draw(st.booleans())
    whole = kind == "seen" or (kind == "reward" and named and draw(st.booleans()))
    strange = draw(st.sampled_from(["user", "content", "impression", *[""] * 7]))
    after_s = draw(st.one_of(st.integers(-15, 39), st.integers(0, latest_s)))
    impression_id = "nobody's" if strange == "impression" else led_by.event_id
    return interaction(
        draw(users) if strange == "user" else led_by.user_id,
        None if whole else 4 if strange == "content" else draw(st.sampled_from(led_by.slate)),
        kind,
        event_id=f"x{number}",
        impression_id=impression_id if named else None,
        dwell_ms=draw(st.integers(0, 90_000)) if kind == "view" else None,
        value=draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0])) if kind == "reward" else None,
        positions=(0,) if kind == "seen" else (),
        timestamp_ms=(led_by.timestamp_ms or 0) + 1000 * after_s,
    )


@st.composite
def happenings(draw: st.DrawFn, latest_s: int = 300) -> list[Event]:
    """Some users see slates, close together or far apart, and do something about them."""
    span_s = draw(st.sampled_from([30, 400]))
    impressions = [draw(shown(number, span_s)) for number in range(draw(st.integers(1, 8)))]
    led_by = draw(st.lists(st.sampled_from(impressions), max_size=14))
    return [*impressions, *[draw(done(number, each, latest_s)) for number, each in enumerate(led_by)]]


@st.composite
def streams(draw: st.DrawFn, latest_s: int = 300) -> list[Arrival]:
    """What a broker appended: each event displaced by less than the bound, some again, some without a time."""
    log: list[Arrival] = []
    for event in draw(happenings(latest_s)):
        append_ms = (event.timestamp_ms or 0) + draw(delays)
        match draw(st.integers(0, 9)):
            case 0:
                event = replace(event, timestamp_ms=None)
            case 1:
                event = replace(event, timestamp_ms=append_ms + YEAR_MS)
        appended = [append_ms] if draw(st.integers(0, 4)) else [append_ms, append_ms + draw(delays)]
        log += [Arrival(PARTITION[event.user_id], at_ms, event) for at_ms in appended]
    return _polled(draw, log)


@st.composite
def backfills(draw: st.DrawFn) -> list[Arrival]:
    """A past that is appended within moments, in no order at all."""
    log: list[Arrival] = []
    for event in draw(happenings()):
        past = replace(event, timestamp_ms=(event.timestamp_ms or 0) - YEAR_MS, source="backfill")
        log += [Arrival(PARTITION[past.user_id], NOW_MS + draw(delays), past) for _ in range(draw(st.integers(1, 2)))]
    return _polled(draw, log)


def _polled(draw: st.DrawFn, log: list[Arrival]) -> list[Arrival]:
    """Put each partition in the order of its log, and the two between each other in any."""
    lanes = [
        sorted((each for each in log if each.partition == lane), key=lambda each: each.append_ms) for lane in (0, 1)
    ]
    merged: list[Arrival] = []
    while any(lanes):
        lane = draw(st.sampled_from([lane for lane in lanes if lane]))
        size = draw(st.integers(1, len(lane)))
        merged += lane[:size]
        del lane[:size]
    return merged


def changes_of(
    log: Sequence[Arrival], rules: JoinRules, restart_at: int | None = None
) -> tuple[list[RowChange], Attribution]:
    attribution = Attribution(rules)
    changes: list[RowChange] = []
    for index, arrival in enumerate(log):
        if index == restart_at:
            arrays, meta = attribution.state()
            attribution = Attribution(rules)
            attribution.restore(arrays, meta)
        changes += attribution.observe([arrival])
    return changes + attribution.advance({0: FAR_MS, 1: FAR_MS}), attribution


def require_rows(log: Sequence[Arrival], require_seen: bool = False) -> None:
    """Compare what the join says with the reference, and what it counted with what it was given."""
    changes, attribution = changes_of(log, JoinRules(windows=WINDOWS, require_seen=require_seen))
    rows: dict[str, Row] = rows_of(changes)

    assert rows == reference_join(log, SPANS, require_seen)
    opened = {change.row_id: change.state for change in changes if isinstance(change, Opened)}
    impressions = [event for _, _, event in log if isinstance(event, Impression)]
    assert opened == {e.event_id: State(e.history, e.history_age_s, e.context) for e in impressions}
    assert sum(attribution.outcomes().values()) == len(log) - len(impressions)
    assert attribution.held == 0
    assert attribution.open_impressions == 0


@settings(max_examples=600, deadline=None)
@given(streams())
def test_any_order_within_the_bound_gives_the_rows_of_a_joiner_that_sees_everything(log: list[Arrival]) -> None:
    require_rows(log)


@settings(max_examples=200, deadline=None)
@given(backfills())
def test_a_past_that_comes_in_no_order_gives_them_too(log: list[Arrival]) -> None:
    require_rows(log)


@settings(max_examples=300, deadline=None)
@given(streams(latest_s=39))
def test_slates_that_nobody_saw_stay_open_where_clients_say_what_was_seen(log: list[Arrival]) -> None:
    require_rows(log, require_seen=True)


tight = st.builds(JoinLimits, open_impressions=st.integers(1, 3), user_impressions=st.integers(1, 3))


@settings(max_examples=300, deadline=None)
@given(streams(), st.data(), st.one_of(st.just(LIMITS), tight))
def test_a_restart_anywhere_changes_nothing_not_even_an_order(
    log: list[Arrival], data: st.DataObject, limits: JoinLimits
) -> None:
    rules = JoinRules(windows=WINDOWS, limits=limits)
    changes, attribution = changes_of(log, rules)
    again, restarted = changes_of(log, rules, data.draw(st.integers(0, len(log) - 1)))

    assert again == changes
    assert restarted.outcomes() == attribution.outcomes()
    assert restarted.tally == attribution.tally
