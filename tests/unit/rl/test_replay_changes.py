"""What changed since a mark is enough to make the same buffer elsewhere, whatever happened in between."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.rl.replay import Replay, key_of
from tests.unit.rl.test_replay import CLICK, new_row

CAPACITY = 6
NAMES = [f"row {number}" for number in range(10)]

Step = tuple[str, Any, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("consume"), st.sampled_from(NAMES), st.integers(1, 30)),
        st.tuples(st.just("withdraw"), st.sampled_from(NAMES), st.integers(1, 30)),
        st.tuples(st.just("close"), st.sampled_from(NAMES), st.one_of(st.none(), st.sampled_from(NAMES))),
        st.tuples(st.just("reopen"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("retract"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("erase"), st.just(""), st.integers(1, 3)),
        st.tuples(st.just("save"), st.none(), st.none()),
    ),
    max_size=60,
)


def take(replay: Replay, step: Step) -> None:
    kind, name, value = step
    key = key_of(name)
    slot = replay.slot(key)
    if kind == "insert":
        if slot is None:
            replay.insert(key, replace(new_row(), user=1 + key % 3), organic=value)
    elif kind == "erase":
        replay.erase(value)
    elif kind == "retract":
        replay.retract(key)
    elif slot is not None and kind == "consume":
        replay.consume(slot, value, CLICK, choice=True)
    elif slot is not None and kind == "withdraw":
        replay.withdraw(slot, value)
    elif slot is not None and kind == "close":
        replay.close(slot, None if value is None else key_of(value), 5.0)
    elif slot is not None:
        replay.reopen(slot)


@settings(deadline=None)
@given(STEPS)
def test_pieces_make_the_same_buffer(steps: list[Step]) -> None:
    replay, twin, mark = Replay(CAPACITY), Replay(CAPACITY), 0
    for step in [*steps, ("save", None, None)]:
        if step[0] != "save":
            take(replay, step)
            continue
        slots = replay.changed_since(mark)
        twin.put_rows(slots, replay.rows(slots))
        mark = replay.changes
    twin.resume(json.loads(json.dumps(replay.meta())))

    assert not len(replay.changed_since(replay.changes))
    for name, column in replay.columns.items():
        np.testing.assert_array_equal(twin.columns[name], column, err_msg=name)
    assert twin.meta() == replay.meta()
    assert twin.eligible_rows == replay.eligible_rows
    assert [twin.slot(key_of(name)) for name in NAMES] == [replay.slot(key_of(name)) for name in NAMES]
    assert twin.changed_since(0).tolist() == replay.changed_since(0).tolist()
