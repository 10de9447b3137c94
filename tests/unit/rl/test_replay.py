from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.rl.batch import Batch, gather
from libs.rl.replay import SLATE, NewRow, Replay, Status, key_of
from libs.rl.rewards import RewardSpec
from libs.rl.sampling import sample
from libs.rl.transitions import TERMS

CLICK = {"click": 1.0}


def new_row(slate: tuple[int, ...] = (1, 2, 3), history: tuple[int, ...] = (7,)) -> NewRow:
    return NewRow(
        history=np.array(history, np.int32),
        history_age_s=[3600.0] * len(history),
        context=None,
        slate=np.array(slate, np.int32),
        log_counts=np.arange(len(slate), dtype=np.float32),
    )


def insert(replay: Replay, name: str, **row: tuple[int, ...]) -> int:
    return replay.insert(key_of(name), new_row(**row))


def slot_of(replay: Replay, name: str) -> int:
    slot = replay.slot(key_of(name))
    assert slot is not None
    return slot


def batch_of(replay: Replay, *names: str) -> Batch:
    return gather(replay, np.array([slot_of(replay, name) for name in names]), RewardSpec())


def term(replay: Replay, slot: int, position: int, name: str) -> float:
    return float(replay.columns["terms"][slot, position, TERMS.index(name)])


def test_an_open_row_trains_nothing_until_something_is_consumed() -> None:
    replay = Replay(4)
    slot = insert(replay, "a")
    assert replay.eligible_rows == 0
    replay.consume(slot, 2, {"view": 0.5}, choice=False)
    assert replay.eligible_rows == 0
    assert replay.consume(slot, 2, CLICK, choice=True)
    assert replay.eligible_rows == 1
    assert not replay.consume(slot, 2, {"like": 1.0}, choice=True)
    assert replay.columns["chosen"][slot, :3].tolist() == [False, True, False]
    assert [term(replay, slot, 1, name) for name in ("view", "click", "like")] == [0.5, 1, 1]


def test_a_closed_row_trains_although_nothing_was_consumed() -> None:
    replay = Replay(4)
    slot = insert(replay, "a")
    replay.close(slot, None, 0.0)
    assert replay.eligible_rows == replay.dirty == 1
    assert replay.columns["status"][slot] == Status.ENDED


@pytest.mark.parametrize("next_comes_first", [True, False])
def test_a_continuation_is_found_whichever_message_comes_first(next_comes_first: bool) -> None:
    replay = Replay(4)
    slot = insert(replay, "a")
    if next_comes_first:
        insert(replay, "b", history=(9,))
    replay.close(slot, key_of("b"), 30.0)
    if not next_comes_first:
        assert batch_of(replay, "a").settled.tolist() == [False]
        insert(replay, "b", history=(9,))
    batch = batch_of(replay, "a")
    assert batch.settled.tolist() == [True]
    assert batch.next_users.history[:, 0].tolist() == [9]
    assert batch.gap_s.tolist() == [30.0]


def test_a_row_closed_again_goes_on_as_was_said_last() -> None:
    replay = Replay(8)
    slot = insert(replay, "a")
    replay.close(slot, key_of("c"), 9.0)
    replay.close(slot, key_of("b"), 4.0)
    insert(replay, "c")
    assert replay.columns["continuation"][slot] == -1
    insert(replay, "b")
    assert batch_of(replay, "a").gap_s.tolist() == [4.0]
    assert replay.columns["continuation"][slot] == 2
    replay.close(slot, None, 0.0)
    assert replay.columns["status"][slot] == Status.ENDED
    replay.close(slot, key_of("c"), 9.0)
    assert replay.columns["continuation"][slot] == 1


def test_a_row_that_is_open_again_trains_only_what_was_consumed() -> None:
    replay = Replay(4)
    refused, clicked = insert(replay, "refused"), insert(replay, "clicked")
    replay.consume(clicked, 2, CLICK, choice=True)
    for slot in (refused, clicked):
        replay.close(slot, key_of("next"), 4.0)
        replay.reopen(slot)
        replay.reopen(slot)
    assert replay.columns["eligible"].tolist() == [False, True, False, False]
    assert (replay.eligible_rows, replay.dirty) == (1, 1)
    assert not batch_of(replay, "refused", "clicked").settled.any()
    insert(replay, "next")
    assert replay.columns["continuation"][[refused, clicked]].tolist() == [-1, -1]
    replay.close(refused, key_of("next"), 4.0)
    assert batch_of(replay, "refused").settled.all()


def test_what_is_withdrawn_was_never_consumed() -> None:
    replay = Replay(4)
    slot = insert(replay, "a")
    replay.consume(slot, 2, CLICK, choice=True)
    assert replay.withdraw(slot, 2)
    assert not replay.withdraw(slot, 2)
    assert not replay.withdraw(slot, 99)
    assert not replay.columns["terms"][slot].any()
    assert replay.eligible_rows == replay.dirty == 0
    assert replay.consume(slot, 2, CLICK, choice=True)
    assert replay.eligible_rows == 1


def test_a_slot_taken_over_is_never_read_through_an_old_reference() -> None:
    replay = Replay(3)
    next_slot = insert(replay, "next")  # older than the row it continues: out of order, and first to leave
    slot = insert(replay, "a")
    replay.close(slot, key_of("next"), 1.0)
    assert batch_of(replay, "a").settled.tolist() == [True]
    insert(replay, "c")
    assert insert(replay, "usurper", history=(99,)) == next_slot
    batch = batch_of(replay, "a")
    assert batch.settled.tolist() == [False]
    assert batch.next_users.history.shape[0] == 0


def test_the_oldest_row_makes_way_with_everything_that_named_it() -> None:
    replay = Replay(2)
    slot = insert(replay, "a")
    replay.consume(slot, 1, CLICK, choice=True)
    replay.close(slot, key_of("never comes"), 1.0)
    insert(replay, "b")
    insert(replay, "c")
    assert replay.slot(key_of("a")) is None
    assert (len(replay), replay.eligible_rows, replay.dirty) == (2, 0, 0)
    insert(replay, "never comes")
    assert not replay.columns["continuation"][slot_of(replay, "c")] > 0


def test_terms_do_not_depend_on_order_or_repetition() -> None:
    changes = [{"hide": -1.0}, {"reward": 2.0}, {"reward": -5.0}, {"view": 0.25}, {"view": 0.75}]
    rows = []
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 2, 0, 4, 1, 3, 3]):
        replay = Replay(2)
        slot = insert(replay, "a")
        for at in order:
            replay.consume(slot, 1, changes[at], choice=False)
        rows.append(replay.columns["terms"][slot].copy())
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows[0][0, TERMS.index("hide")] == -1
    assert rows[0][0, TERMS.index("reward")] == -5


def test_a_long_slate_keeps_the_consumed_and_the_first() -> None:
    replay = Replay(2)
    slot = insert(replay, "a", slate=tuple(range(1, 21)))
    replay.consume(slot, 20, CLICK, choice=True)
    replay.consume(slot, 1, CLICK, choice=True)
    assert replay.columns["slate"][slot].tolist() == [*range(1, SLATE), 20]
    assert replay.columns["chosen"][slot].tolist() == [True] + [False] * (SLATE - 2) + [True]
    for content in range(2, 20):
        replay.consume(slot, content, CLICK, choice=True)
    assert replay.truncated == 8
    assert replay.columns["chosen"][slot].all()


def test_a_retracted_row_is_gone_for_good() -> None:
    replay = Replay(4)
    slot = replay.insert(key_of("o"), new_row(slate=(5,)), organic=True)
    replay.consume(slot, 5, {"like": 1.0}, choice=True)
    replay.retract(key_of("o"))
    replay.retract(key_of("o"))
    assert (len(replay), replay.eligible_rows, replay.dirty) == (0, 0, 0)
    assert len(sample(replay, 4, np.random.default_rng(0))) == 0


def test_wild_numbers_stay_finite_in_the_row() -> None:
    replay = Replay(2)
    context = np.full(64, 1e4, np.float32)
    slot = replay.insert(
        key_of("a"), NewRow(np.array([1], np.int32), [1e12], context, np.array([1], np.int32), np.zeros(1, np.float32))
    )
    replay.consume(slot, 1, {"reward": 1e300}, choice=True)
    batch = batch_of(replay, "a")
    assert np.isfinite(batch.users.weights).all()
    assert np.isfinite(batch.users.context).all()
    assert batch.rewards[0, 0] == 2.0


def test_a_row_costs_less_than_a_kilobyte() -> None:
    replay = Replay(1_000)
    columns = sum(column.nbytes for column in replay.columns.values())
    assert columns / 1_000 + 16 <= 1_000  # the index: at most 16 bytes a row


def filled(rows: int) -> Replay:
    replay = Replay(rows)
    for at in range(rows):
        slot = insert(replay, f"row {at}")
        replay.consume(slot, 1, CLICK, choice=True)
    return replay


@pytest.mark.parametrize("rows", [300, 20_000])
def test_a_batch_holds_distinct_rows_and_all_new_ones(rows: int) -> None:
    replay, rng = filled(rows), np.random.default_rng(0)
    replay.mark_trained(range(rows))
    untrained = [rows - 1, 5, 17]
    for slot in untrained:
        replay.consume(slot, 2, CLICK, choice=True)
    batch = sample(replay, 256, rng)
    assert len(set(batch.tolist())) == 256
    assert set(untrained) <= set(batch.tolist())
    recent = int((batch >= rows * 0.95).sum())
    assert recent >= min(rows // 20, 126)
    assert (batch < rows * 0.9).sum() > 80


def test_more_new_rows_than_a_batch_holds_take_turns_newest_first() -> None:
    replay, rng = filled(10), np.random.default_rng(0)
    first = sample(replay, 4, rng)
    assert sorted(first.tolist()) == [6, 7, 8, 9]
    replay.mark_trained(first.tolist())
    assert sorted(sample(replay, 4, rng).tolist()) == [2, 3, 4, 5]


def test_a_batch_is_what_the_buffer_has_when_that_is_less() -> None:
    assert sorted(sample(filled(3), 256, np.random.default_rng(0)).tolist()) == [0, 1, 2]
    assert len(sample(Replay(8), 256, np.random.default_rng(0))) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ocxnr"), st.integers(0, 8), st.integers(0, 8)), max_size=60))
def test_the_buffer_is_a_map_of_the_newest_rows(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain dictionary: rows by name, oldest out first."""
    replay = Replay(5)
    model: dict[int, dict[str, Any]] = {}
    for step, name, other in steps:
        row = model.get(name)
        if step == "o" and row is None:
            insert(replay, f"r{name}", history=(name + 1,))
            model = dict(list(model.items())[-4:]) if len(model) == 5 else model
            model[name] = {"chosen": False, "next": None, "closed": False}
        elif row is not None and step == "c":
            replay.consume(slot_of(replay, f"r{name}"), 1, CLICK, choice=True)
            row["chosen"] = True
        elif row is not None and step in "xn" and not row["closed"]:
            replay.close(slot_of(replay, f"r{name}"), key_of(f"r{other}") if step == "n" else None, 1.0)
            row |= {"closed": True, "next": other if step == "n" else None}
    assert {name for name in range(9) if key_of(f"r{name}") in replay} == set(model)
    assert replay.eligible_rows == sum(row["chosen"] or row["closed"] for row in model.values())
    slots = [slot_of(replay, f"r{name}") for name in model]
    batch = gather(replay, np.array(slots, np.int64), RewardSpec())
    assert batch.chosen[:, 0].tolist() == [row["chosen"] for row in model.values()]
    assert batch.users.history[:, 0].tolist() == [name + 1 for name in model]
    for at, place in zip(batch.continued, range(len(batch.continued)), strict=True):
        assert batch.next_users.history[place, 0] == list(model.values())[at]["next"] + 1


def test_a_recent_share_of_one_draws_from_all_rows_alike() -> None:
    replay, rng = filled(1_000), np.random.default_rng(0)
    replay.mark_trained(range(1_000))
    newest = {
        share: np.mean([(sample(replay, 20, rng, share) >= 950).mean() for _ in range(100)]) for share in (0.05, 1.0)
    }
    assert newest[0.05] == pytest.approx(0.5, abs=0.06)
    assert newest[1.0] == pytest.approx(0.05, abs=0.03)
