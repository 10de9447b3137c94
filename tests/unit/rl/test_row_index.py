import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from libs.rl.row_index import RowIndex

SLOTS = 6
# Few distinct low bits, so that keys of different homes push each other around, also past the end of the table.
KEYS = st.sampled_from([0, 1, 14, 15, 16, 30, 31, 47, -1, -2, 2**62, -(2**63)])


@given(st.lists(st.tuples(st.sampled_from(["add", "remove"]), KEYS), max_size=60))
def test_it_is_a_map(steps: list[tuple[str, int]]) -> None:
    keys = np.zeros(SLOTS, np.int64)
    index = RowIndex(keys)
    model: dict[int, int] = {}
    for step, key in steps:
        free = sorted(set(range(SLOTS)) - set(model.values()))
        if step == "remove":
            assert index.remove(key) == model.pop(key, None)
        elif key not in model and free:
            keys[free[0]] = key
            index.add(key, free[0])
            model[key] = free[0]
        assert len(index) == len(model)
        for known in (0, 1, 14, 15, 16, 30, 31, 47, -1, -2, 2**62, -(2**63)):
            assert index.get(known) == model.get(known)


def test_a_full_ring_turning_over_keeps_finding_its_rows() -> None:
    rows, rng = 1_000, np.random.default_rng(0)
    keys = np.zeros(rows, np.int64)
    index = RowIndex(keys)
    stream = rng.integers(-(2**63), 2**63 - 1, 5 * rows).tolist()
    for serial, key in enumerate(stream):
        if serial >= rows:
            assert index.remove(stream[serial - rows]) == serial % rows
        keys[serial % rows] = key
        index.add(key, serial % rows)
    assert [index.get(key) for key in stream[-rows:]] == list(range(rows))
    assert [index.get(key) for key in stream[:rows]] == [None] * rows
