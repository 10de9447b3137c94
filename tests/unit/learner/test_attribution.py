"""What the join does with one user's events, in numbers small enough to follow."""

from typing import Any

import pytest

from libs.events.schema import Logged
from libs.rl.transitions import Closed, Consumed, Opened, Organic, Reopened, Retracted, RowChange, State
from services.learner.attribution import Arrival, Attribution
from services.learner.windows import JoinLimits, JoinRules
from tests.builders import NOW_MS, impression, interaction

MINUTE_MS = 60_000
CLICK_MS = 10 * MINUTE_MS
USER = "user-1"
FINAL_MS = 31 * MINUTE_MS


class Stream:
    """Feeds one partition, event time = append time unless the event says otherwise."""

    def __init__(self, **rules: Any) -> None:
        self.attribution = Attribution(JoinRules(**rules))
        self.changes: list[RowChange] = []

    def at(self, after_ms: int, event: Logged, partition: int = 0) -> list[RowChange]:
        changes = self.attribution.observe([Arrival(partition, NOW_MS + after_ms, event)])
        self.changes += changes
        return changes

    def silence(self, after_ms: int) -> list[RowChange]:
        return self.attribution.advance({0: NOW_MS + after_ms})

    def outcomes(self) -> dict[str, int]:
        return {name: count for name, count in self.attribution.outcomes().items() if count}


def shown(event_id: str = "i1", slate: tuple[int, ...] = (1, 2, 3), **fields: Any) -> Logged:
    return impression("user-1", slate, event_id=event_id, **({"timestamp_ms": None} | fields))


def click(content_id: int | None = 1, event_id: str = "c1", **fields: Any) -> Logged:
    return interaction("user-1", content_id, event_id=event_id, **({"timestamp_ms": None} | fields))


def test_an_impression_opens_a_row_with_the_state_as_it_was_logged() -> None:
    stream = Stream()
    event = shown(history=(7, 8), history_age_s=(1.0, 2.0), context={"hour": 3.0}, candidates=(1, 2, 3, 4))

    (opened,) = stream.at(0, event)

    assert opened == Opened(
        "i1", State((7, 8), (1.0, 2.0), {"hour": 3.0}), (1, 2, 3), (1, 2, 3, 4), (0.0, 0.0, 0.0), USER
    )


def test_a_click_amends_its_row_at_once() -> None:
    stream = Stream()
    stream.at(0, shown())

    changes = stream.at(900, click(2, impression_id="i1"))

    assert changes == [Consumed("i1", 2, {"click": 1.0}, True, "c1", NOW_MS + 900)]
    assert stream.outcomes() == {"joined": 1}


def test_the_next_impression_within_the_horizon_continues_the_story() -> None:
    stream = Stream()
    stream.at(0, shown("i1"))

    assert Closed("i1", "i2", 12.5) in stream.at(12_500, shown("i2"))
    assert Closed("i2") in stream.at(12_500 + 30 * MINUTE_MS + 1, shown("i3"))


def test_a_row_ends_when_its_windows_pass_in_silence() -> None:
    stream = Stream()
    stream.at(0, shown())

    assert stream.silence(FINAL_MS) == []
    assert stream.attribution.open_impressions == 1
    assert stream.silence(FINAL_MS + 1) == [Closed("i1")]
    assert stream.attribution.open_impressions == 0


def test_one_partition_does_not_move_the_deadlines_of_another() -> None:
    stream = Stream()
    stream.at(0, shown())

    assert Closed("i1") not in stream.at(FINAL_MS + 1, impression("user-2"), partition=1)


def test_an_interaction_waits_for_the_impression_it_names_and_then_stands_alone() -> None:
    stream = Stream()

    assert stream.at(0, click(impression_id="i1")) == []
    assert stream.attribution.held == 1
    assert stream.silence(CLICK_MS) == []
    (organic,) = stream.silence(CLICK_MS + 1)

    assert isinstance(organic, Organic)
    assert (organic.row_id, organic.content_id, organic.terms) == ("organic:c1", 1, {"click": 1.0})
    assert stream.outcomes() == {"organic": 1}
    assert stream.attribution.held == 0


def test_an_organic_row_leaves_when_its_impression_comes_after_all() -> None:
    stream = Stream()
    (organic,) = stream.at(500, click(timestamp_ms=NOW_MS + 500))
    assert isinstance(organic, Organic)

    changes = stream.at(900, shown(timestamp_ms=NOW_MS))

    assert changes[1:] == [Retracted("organic:c1"), Consumed("i1", 1, {"click": 1.0}, True, "c1", NOW_MS + 500)]
    assert stream.outcomes() == {"joined": 1}


def test_an_organic_row_knows_what_the_user_consumed_before() -> None:
    stream = Stream()
    stream.at(0, click(7, "c1"))
    stream.at(2_000, click(8, "c2"))

    (organic,) = stream.at(5_000, click(9, "c3"))

    assert isinstance(organic, Organic)
    assert organic.state == State((8, 7), (3.0, 5.0))


def test_a_late_click_amends_the_row_while_it_is_in_the_buffer() -> None:
    stream = Stream()
    stream.at(0, shown())

    assert len(stream.at(CLICK_MS + 1, click(impression_id="i1"))) == 1
    changes = stream.at(FINAL_MS + 1, click(2, "c2", impression_id="i1"))

    assert changes == [Closed("i1"), Consumed("i1", 2, {"click": 1.0}, True, "c2", NOW_MS + FINAL_MS + 1)]
    assert stream.outcomes() == {"late_applied": 2}


def test_a_late_click_is_lost_once_newer_rows_have_pushed_its_row_out() -> None:
    stream = Stream(limits=JoinLimits(buffer_rows=2))
    stream.at(0, shown("i1"))
    stream.silence(FINAL_MS + 1)
    stream.at(FINAL_MS + 2, shown("i2"))
    assert len(stream.at(FINAL_MS + 3, click(1, "c1", impression_id="i1"))) == 1
    stream.at(FINAL_MS + 4, shown("i3"))

    assert stream.at(FINAL_MS + 5, click(1, "c2", impression_id="i1")) == []
    assert stream.outcomes() == {"late_applied": 1, "late_lost": 1}


def test_a_late_click_on_a_forgotten_impression_is_lost_and_said_so() -> None:
    stream = Stream(limits=JoinLimits(closed_impressions=1))
    stream.at(0, shown("i1"))
    stream.at(1, impression("user-2", event_id="i2", timestamp_ms=None))
    stream.silence(FINAL_MS + 5)

    assert stream.at(FINAL_MS + 6, click(impression_id="i1")) == []
    assert stream.outcomes() == {"late_lost": 1}


@pytest.mark.parametrize(
    "stray",
    [click(99, impression_id="i1"), interaction("user-2", 1, impression_id="i1", timestamp_ms=None)],
    ids=["content the impression did not show", "another user's impression"],
)
def test_a_click_that_contradicts_its_impression_stands_alone(stray: Logged) -> None:
    stream = Stream()
    stream.at(0, shown())

    (organic,) = stream.at(1, stray)

    assert isinstance(organic, Organic)
    assert stream.outcomes() == {"organic": 1}


def test_a_click_that_contradicts_the_impression_it_waited_for_stands_alone() -> None:
    stream = Stream()
    stream.at(0, click(99, impression_id="i1"))

    assert [type(change) for change in stream.at(1, shown())] == [Opened, Organic]
    assert stream.outcomes() == {"organic": 1}


def test_repeated_events_count_once() -> None:
    stream = Stream()
    for _ in range(3):
        stream.at(0, shown())
        stream.at(1, click(impression_id="i1"))

    assert [type(change) for change in stream.changes] == [Opened, Consumed]
    assert stream.outcomes() == {"joined": 1, "duplicate": 2}
    assert stream.attribution.tally["duplicate_impressions"] == 2
    assert stream.attribution.take_accepted() == ["i1", "c1"]
    assert stream.attribution.take_accepted() == []


def test_a_repeated_impression_stays_one_row_even_beyond_the_dedup_window() -> None:
    stream = Stream(limits=JoinLimits(dedup_s=1.0))
    stream.at(0, shown())
    stream.silence(5_000)

    assert stream.at(6_000, shown()) == []
    assert stream.attribution.take_accepted() == ["i1"]


def test_a_reward_for_the_whole_impression_goes_to_its_first_content() -> None:
    stream = Stream()
    stream.at(0, shown(slate=(5, 6)))

    changes = stream.at(
        1, interaction("user-1", None, "reward", event_id="r", impression_id="i1", value=0.5, timestamp_ms=None)
    )

    assert changes == [Consumed("i1", 5, {"reward": 0.5}, False, "r", NOW_MS + 1)]


def test_only_choices_make_organic_rows() -> None:
    stream = Stream()

    assert stream.at(0, interaction("user-1", 1, "view", dwell_ms=60_000, timestamp_ms=None)) == []
    assert stream.at(1, interaction("user-1", 2, "hide", timestamp_ms=None)) == []
    assert stream.outcomes() == {"organic": 2}
    (organic,) = stream.at(1_000, click(3))

    assert isinstance(organic, Organic)
    assert organic.state.history == (1,)  # the view was long enough to count as a visit, hiding is not one


def test_with_require_seen_a_slate_nobody_saw_never_becomes_a_refusal() -> None:
    stream = Stream(require_seen=True)
    stream.at(0, shown("i1"))
    stream.at(1, shown("i2"))
    stream.at(2, shown("i3"))
    assert not any(isinstance(change, Closed) for change in stream.changes)

    seen = interaction("user-1", None, "seen", impression_id="i1", positions=(0,), timestamp_ms=None)
    assert stream.at(3, seen) == [Closed("i1", "i2", 0.001)]
    assert stream.at(4, click(1, impression_id="i2"))[1:] == [Closed("i2", "i3", 0.001)]
    assert stream.silence(FINAL_MS + 10) == []


def test_with_require_seen_a_slate_is_open_again_when_its_only_click_was_another_slates() -> None:
    stream = Stream(require_seen=True)
    stream.at(0, shown("i1", timestamp_ms=NOW_MS))
    stream.at(12, click(1, timestamp_ms=NOW_MS + 12))
    assert Closed("i1", "i3", 0.014) in stream.at(14, shown("i3", (8,), timestamp_ms=NOW_MS + 14))

    changes = stream.at(20, shown("i2", timestamp_ms=NOW_MS + 10))

    assert changes[-1] == Reopened("i1")
    assert Consumed("i2", 1, {"click": 1.0}, True, "c1", NOW_MS + 12) in changes
    assert stream.at(21, click(2, "c2", impression_id="i1"))[-1] == Closed("i1", "i2", 0.01)


@pytest.mark.parametrize(
    ("history", "ages", "stale"),
    [
        ((1,), (1.0,), False),
        ((), (), True),
        (tuple(range(100, 130)), tuple(float(age) for age in range(30)), True),
        (tuple(range(100, 130)), tuple(age / 100 for age in range(30)), False),
    ],
    ids=["logged", "missing", "missing though newer than the oldest", "older than a full history"],
)
def test_a_history_that_lacks_an_earlier_click_is_counted(
    history: tuple[int, ...], ages: tuple[float, ...], stale: bool
) -> None:
    stream = Stream()
    stream.at(0, click(1))

    stream.at(1_000, shown(slate=(5,), history=history, history_age_s=ages))

    assert stream.attribution.tally["stale_history"] == int(stale)


def test_a_backend_that_ranks_by_itself_logs_no_history_and_is_not_called_stale() -> None:
    stream = Stream()
    stream.at(0, click(1))
    stream.at(1_000, shown(slate=(5,), arm="external"))

    assert stream.attribution.tally["stale_history"] == 0


def test_a_clock_in_the_future_moves_nothing_but_a_counter() -> None:
    stream = Stream()
    stream.at(0, shown("i1", timestamp_ms=4_102_444_800_000))

    assert Closed("i1", "i2", 1.0) in stream.at(1_000, shown("i2"))
    assert stream.attribution.tally["clamped_future"] == 1


def test_impressions_beyond_the_global_cap_are_let_go_oldest_first_and_counted() -> None:
    stream = Stream(limits=JoinLimits(open_impressions=2))
    for number in range(4):
        stream.at(number, impression(f"user-{number}", event_id=f"i{number}", timestamp_ms=None))

    assert [c.row_id for c in stream.changes if isinstance(c, Closed)] == ["i0", "i1"]
    assert stream.attribution.open_impressions == 2
    assert stream.attribution.tally["evicted_global"] == 2
    late = stream.at(9, interaction("user-0", 1, impression_id="i0", timestamp_ms=None))
    assert isinstance(late[0], Consumed)


def test_one_user_cannot_fill_the_join() -> None:
    stream = Stream(limits=JoinLimits(user_impressions=3, user_loose=2))
    for number in range(5):
        stream.at(number, shown(f"i{number}"))
    assert stream.attribution.open_impressions == 3
    assert stream.attribution.tally["evicted_user"] == 2

    for number in range(3):
        stream.at(10, click(1, f"held{number}", impression_id=f"unknown{number}"))
    assert stream.attribution.held == 2
    assert stream.outcomes() == {"organic": 1}


def test_users_who_have_been_away_for_longest_are_forgotten() -> None:
    stream = Stream(limits=JoinLimits(users=2))
    for number in range(3):
        click_ms = number * (CLICK_MS + 1)
        stream.at(click_ms, interaction(f"user-{number}", 1, timestamp_ms=None))

    assert stream.attribution.tally["evicted_story"] == 1


def test_every_interaction_ends_in_exactly_one_outcome() -> None:
    stream = Stream()
    stream.at(0, shown())
    stream.at(1, click(1, "a", impression_id="i1"))
    stream.at(2, click(1, "a", impression_id="i1"))
    stream.at(3, click(99, "b"))
    stream.at(CLICK_MS + 1, click(2, "c", impression_id="i1"))
    stream.at(CLICK_MS + 2, click(2, "d", impression_id="elsewhere"))
    stream.attribution.observe([], dead_letters=1)

    assert stream.outcomes() == {"joined": 1, "duplicate": 1, "organic": 1, "late_applied": 1, "dead_lettered": 1}
    assert sum(stream.outcomes().values()) + stream.attribution.held == stream.attribution.tally["interactions"]


def test_what_is_late_for_the_buffer_is_so_after_a_restart_too() -> None:
    rules = JoinRules(limits=JoinLimits(buffer_rows=2))
    before = Stream(limits=rules.limits)
    before.at(0, shown("i1"))
    before.at(1, impression("user-2", event_id="i2", timestamp_ms=None))
    before.silence(FINAL_MS + 5)
    restored = Stream(limits=rules.limits)
    restored.attribution.restore(*before.attribution.state())

    assert len(restored.at(FINAL_MS + 6, click(1, "c1", impression_id="i1"))) == 1
    restored.at(FINAL_MS + 7, shown("i3"))
    assert restored.at(FINAL_MS + 8, click(1, "c2", impression_id="i1")) == []
    assert restored.outcomes() == {"late_applied": 1, "late_lost": 1}


@pytest.mark.parametrize("named", ["i1", None], ids=["held", "organic"])
def test_what_waits_keeps_its_order_across_a_restart(named: str | None) -> None:
    before = Stream()
    like = interaction("user-1", 2, "like", event_id="like", impression_id=named, timestamp_ms=NOW_MS + 1)
    before.at(1, like)  # waits for longer than the click after it
    before.at(2, click(1, "click", impression_id=named, timestamp_ms=NOW_MS + 2))
    restored = Stream()
    restored.attribution.restore(*before.attribution.state())

    changes = restored.at(3, shown("i1", timestamp_ms=NOW_MS))

    assert [change.event_id for change in changes if isinstance(change, Consumed)] == ["like", "click"]
    assert changes == before.at(3, shown("i1", timestamp_ms=NOW_MS))


def test_a_cap_lets_go_of_the_same_impressions_after_a_restart() -> None:
    limits = JoinLimits(open_impressions=2, user_impressions=1)
    before = Stream(limits=limits)
    before.at(0, impression("user-2", event_id="other", timestamp_ms=None))
    for number in range(3):
        before.at(number, shown(f"i{number}"))
    restored = Stream(limits=limits)
    restored.attribution.restore(*before.attribution.state())

    assert restored.at(4, shown("i3")) == before.at(4, shown("i3"))
    assert restored.attribution.tally == before.attribution.tally
