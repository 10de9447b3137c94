"""Estimators, in numbers small enough to check by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.rl import off_policy
from libs.rl.off_policy import ESTIMATORS, RewardModel, Tally, estimates, tally

HALF, TWICE = math.log(0.5), math.log(2.0)


def by_hand(repeat: int = 100, model: RewardModel | None = None) -> Tally:
    """Four users, each with slates of two: prefix weights (2, 1), (½, ½), (1, 2), (½, ½); one reward in each of three.

    Repeated so often that there is a number at all.
    """
    log_weights = np.array([[TWICE, 0.0], [HALF, HALF], [0.0, TWICE], [HALF, HALF]])
    rewards = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    shown = np.ones((4, 2), np.bool_)
    many = [np.tile(each, (repeat, 1)) for each in (rewards, shown, log_weights)]
    return tally(many[0], many[1], many[2], np.tile(np.arange(4), repeat), 4, model)


def test_every_estimator_by_hand() -> None:
    found = estimates(by_hand(), ("ips", "snips", "rips", "snrips"))
    values = {name: each.value for name, each in found.items()}
    assert values["ips"] == pytest.approx((1 * 1 + 0.5 * 1 + 2 * 3) / 4)
    assert values["snips"] == pytest.approx((1 * 1 + 0.5 * 1 + 2 * 3) / 4)  # these weights sum up to four
    assert values["rips"] == pytest.approx((2 * 1 + 0.5 * 1 + 2 * 3) / 4)
    assert values["snrips"] == pytest.approx((2 * 1) / 4 + (0.5 * 1 + 2 * 3) / 4)
    assert by_hand().logged_value == pytest.approx(5 / 4)
    assert found["ips"].lift == pytest.approx(7.5 / 5 - 1)


def test_self_normalised_estimators_divide_by_what_the_weights_are() -> None:
    log_weights = np.tile([[TWICE, TWICE], [0.0, 0.0]], (100, 1))
    rewards = np.tile([[1.0, 0.0], [0.0, 1.0]], (100, 1))
    counted = tally(rewards, np.ones((200, 2), np.bool_), log_weights, np.arange(200), 200)
    found = estimates(counted)
    assert found["ips"].value == pytest.approx(3 / 2)
    assert found["ips"].weights.ess == pytest.approx(300**2 / 500)
    assert found["snips"].value == pytest.approx(3 / 3)
    assert found["snrips"].value == pytest.approx(2 / 3 + 1 / 3)


def test_doubly_robust_corrects_a_model_that_is_wrong_and_needs_no_weights_where_it_is_right() -> None:
    logged, target = np.tile([1.0, 1.0, 3.0, 0.0], 100), np.tile([2.0, 0.0, 1.0, 1.0], 100)
    right = estimates(by_hand(model=RewardModel(logged, target)), ("dr",))["dr"]
    assert right.value == pytest.approx(4 / 4)
    wrong = estimates(by_hand(model=RewardModel(0 * logged, 0 * target)), ("dr", "ips"))
    assert wrong["dr"].value == wrong["ips"].value


def test_weights_say_how_much_the_number_rests_on() -> None:
    found = estimates(by_hand(100))
    whole = found["ips"].weights  # (1, ½, 2, ½)
    assert whole.n == 400
    assert whole.mean == pytest.approx(1.0)
    assert whole.ess == pytest.approx(100 * 16 / 5.5)
    assert whole.largest_share == pytest.approx(2 / 400)
    prefix = found["rips"].weights  # (1½, ½, 1½, ½)
    assert prefix.ess == pytest.approx(100 * 16 / 5)
    assert prefix.largest_share == pytest.approx(1.5 / 400)


def test_below_an_effective_sample_of_100_there_is_no_number() -> None:
    few = estimates(by_hand(34))  # 98.9 of slates, 108.8 of prefixes
    assert (few["ips"].refused, few["ips"].value, few["ips"].interval) == ("ess", None, None)
    assert few["ips"].weights.ess == pytest.approx(34 * 16 / 5.5)
    assert few["rips"].usable
    assert estimates(by_hand(35))["ips"].usable
    nothing = estimates(Tally.empty(4, 2))["snrips"]
    assert (nothing.refused, nothing.usable, nothing.weights.n) == ("rows", False, 0)


def test_a_mean_weight_off_one_and_rotten_propensities_make_it_invalid() -> None:
    rows = np.ones((1_000, 1))
    for log_weight, reason in ((0.0, ""), (0.09, ""), (0.1, "mean_weight"), (-0.11, "mean_weight")):
        counted = tally(rows, rows > 0, np.full((1_000, 1), log_weight), np.arange(1_000), 1_000)
        assert estimates(counted)["ips"].invalid == reason
    own = tally(rows, rows > 0, 0 * rows, np.arange(1_000), 1_000)
    assert estimates(own, propensity_difference=2e-4)["ips"].invalid == "propensities"
    assert not estimates(own, propensity_difference=2e-4)["ips"].usable
    assert estimates(own, propensity_difference=5e-5)["ips"].usable


def test_short_slates_count_where_they_end() -> None:
    shown = np.tile([[True, True], [True, False]], (100, 1))
    log_weights = np.tile([[HALF, TWICE], [TWICE, 99.0]], (100, 1))
    rewards = np.tile([[0.0, 1.0], [1.0, 99.0]], (100, 1))
    found = estimates(tally(rewards, shown, log_weights, np.arange(200), 200))
    assert found["ips"].value == pytest.approx((2 * 1 + 2 * 1) / 2)
    assert found["rips"].value == pytest.approx((2 * 1 + 2 * 1) / 2)
    # First position: one reward at weight 2 of 2½. Second: its only row got its reward, and half of the rows have one.
    assert found["snrips"].value == pytest.approx(2 / 2.5 + 0.5)


def test_the_interval_is_that_of_users_and_not_of_rows() -> None:
    rng = np.random.default_rng(0)
    tastes = np.repeat(rng.random(50), 100)  # a hundred slates of each of fifty users who like all or little
    rewards = (rng.random(5_000) < tastes).astype(float)[:, None]
    shown, weights = np.ones((5_000, 1), np.bool_), np.zeros((5_000, 1))
    by_user = estimates(tally(rewards, shown, weights, np.repeat(np.arange(50), 100), 50))["ips"].interval
    by_row = estimates(tally(rewards, shown, weights, np.arange(5_000), 5_000))["ips"].interval
    assert by_user is not None
    assert by_row is not None
    expected = 2 * 1.96 * tastes[::100].std() / math.sqrt(50)
    assert by_user.high - by_user.low == pytest.approx(expected, rel=0.15)
    assert by_row.high - by_row.low < 0.3 * (by_user.high - by_user.low)


def test_the_bootstrap_is_the_seeds_and_one_user_has_none() -> None:
    rewards = np.random.default_rng(0).random((300, 1))
    counted = tally(rewards, rewards >= 0, 0 * rewards, np.arange(300), 300)
    first, again, other = (estimates(counted, seed=seed)["ips"].interval for seed in (1, 1, 2))
    assert first == again != other
    assert first is not None
    lonely = tally(np.ones((200, 1)), np.ones((200, 1), np.bool_), np.zeros((200, 1)), np.zeros(200, np.int64), 1)
    assert estimates(lonely)["ips"].value == 1.0
    assert estimates(lonely)["ips"].interval is None


def test_the_lift_of_a_log_under_its_own_policy_is_none_at_all() -> None:
    rewards = np.random.default_rng(0).random((500, 3))
    counted = tally(rewards, np.ones((500, 3), np.bool_), np.zeros((500, 3)), np.arange(500), 500)
    for found in estimates(counted).values():
        assert found.value == pytest.approx(counted.logged_value)
        assert found.lift_interval is not None
        assert (found.lift_interval.low, found.lift_interval.high) == pytest.approx((0.0, 0.0), abs=1e-9)


@given(st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_tallies_add_up_to_the_tally_of_all(split: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, log_weights = rng.random((8, 3)), rng.normal(size=(8, 3))
    shown = np.arange(3) < rng.integers(1, 4, 8)[:, None]
    groups = rng.integers(0, 4, 8)
    parts = [tally(rewards[at], shown[at], log_weights[at], groups[at], 4) for at in (slice(split), slice(split, 8))]
    whole = tally(rewards, shown, log_weights, groups, 4)
    np.testing.assert_allclose((parts[0] + parts[1]).sums, whole.sums, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal((parts[0] + parts[1]).largest, whole.largest)


def test_estimators_agree_with_the_truth_of_a_small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contents, one position: the target's value is known, and every estimator finds it."""
    monkeypatch.setattr(off_policy, "RESAMPLES", 10)
    rng = np.random.default_rng(0)
    first = rng.random(40_000) < 0.7  # the log shows the first content at 0.7, the target at 0.4
    rewards = (rng.random(40_000) < np.where(first, 0.2, 0.6)).astype(float)[:, None]
    log_weights = np.log(np.where(first, 0.4 / 0.7, 0.6 / 0.3))[:, None]
    truth = 0.4 * 0.2 + 0.6 * 0.6
    model = RewardModel(np.where(first, 0.3, 0.5), np.full(40_000, 0.4 * 0.3 + 0.6 * 0.5))
    counted = tally(rewards, np.ones((40_000, 1), np.bool_), log_weights, np.arange(40_000), 40_000, model)
    for name, found in estimates(counted, tuple(ESTIMATORS), resamples=50).items():
        assert found.value == pytest.approx(truth, abs=0.01), name
