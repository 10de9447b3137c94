from hypothesis import given
from hypothesis import strategies as st

from libs.adapters.snapshot_retention import KEPT_NEWEST, superseded

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def test_ten_are_kept_however_old() -> None:
    assert superseded(range(0, 10 * DAY_MS, DAY_MS)) == []
    assert superseded(range(0, 11 * DAY_MS, DAY_MS)) == [0]


def test_the_newest_of_an_hour_stays_when_the_ten_have_moved_on() -> None:
    before_the_hour = [HOUR_MS - 2_000, HOUR_MS - 1_000]
    after = [HOUR_MS + second * 1_000 for second in range(20)]
    assert superseded(before_the_hour + after) == [HOUR_MS - 2_000, *after[:10]]


def test_nothing_older_than_a_day_stays_beyond_the_ten() -> None:
    newest = [3 * DAY_MS + second for second in range(10)]
    day_old = [2 * DAY_MS, 2 * DAY_MS + HOUR_MS]
    assert superseded([*day_old, *newest]) == [2 * DAY_MS]


@given(st.lists(st.integers(0, 3 * DAY_MS), unique=True, max_size=200))
def test_dropping_one_by_one_keeps_a_bounded_set_and_always_the_newest(versions: list[int]) -> None:
    kept: list[int] = []
    for version in sorted(versions):
        kept.append(version)
        gone = superseded(kept)
        kept = [other for other in kept if other not in gone]
        assert kept[-1] == version
        assert superseded(kept) == []
    assert len(kept) <= KEPT_NEWEST + 25
    assert kept[-KEPT_NEWEST:] == sorted(versions)[-KEPT_NEWEST:]
