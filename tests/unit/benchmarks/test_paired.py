import numpy as np
import pytest

from benchmarks.paired import paired_interval


def test_users_are_drawn_whole_and_weigh_by_their_requests() -> None:
    # User 1 gains 1 in each of three requests, user 2 loses 1 in one. Two draws: both 1, both 2, or one of each.
    ours, theirs = np.array([2.0, 2.0, 2.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])
    found = paired_interval(ours, theirs, np.array([1, 1, 1, 2]))
    assert found.difference == (3 - 1) / 4
    assert (found.low, found.high) == (-1.0, 1.0)  # each happens a quarter of the time


def test_the_interval_is_that_of_theory_for_many_users() -> None:
    rng = np.random.default_rng(0)
    gains, users = rng.normal(0.3, 1.0, 1_000), np.arange(1_000)
    found = paired_interval(gains, np.zeros(1_000), users)
    half = 1.96 * gains.std() / np.sqrt(1_000)
    assert found.difference == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx((gains.mean() - half, gains.mean() + half), abs=0.005)


def test_requests_of_the_same_users_again_do_not_make_it_surer() -> None:
    rng = np.random.default_rng(0)
    gains, users = rng.normal(0.3, 1.0, 200), np.arange(200)
    once = paired_interval(gains, np.zeros(200), users)
    thrice = paired_interval(np.tile(gains, 3), np.zeros(600), np.tile(users, 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_what_both_rankers_share_cancels_out() -> None:
    rng = np.random.default_rng(0)
    hard, users = rng.normal(0, 100.0, 50), np.arange(50) % 7
    found = paired_interval(hard + 0.5, hard, users)
    assert (found.low, found.difference, found.high) == pytest.approx((0.5, 0.5, 0.5))
