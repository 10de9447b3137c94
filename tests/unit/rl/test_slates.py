import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from jaxtyping import config
from numpy.typing import ArrayLike

from libs.rl.slates import (
    Exploration,
    Scores,
    choice_offset,
    log_probabilities,
    plackett_luce,
    plackett_luce_all,
    slate_advantage,
    slate_scores,
)

SCORES = np.array([1.3, -0.4, 0.2, 2.1, 0.9], np.float32)


def scores_of(advantage: ArrayLike, choice: ArrayLike, a_empty: float = 0.0) -> Scores:
    return Scores(np.array(advantage, np.float32), np.array(choice, np.float32), 0.0, 0.0, a_empty)


@pytest.mark.parametrize(
    "exploration", [Exploration(), Exploration(1.0, 0.3), Exploration(0.05, 0.0), Exploration(1.0, 1.0)]
)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_probabilities_over_all_slates_sum_to_one(exploration: Exploration, size: int) -> None:
    slates = itertools.permutations(range(len(SCORES)), size)
    total = sum(np.exp(log_probabilities(SCORES, np.array(slate), exploration)[-1]) for slate in slates)
    assert total == pytest.approx(1, abs=1e-9)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shape checks cost more than a draw; 200 k of them would take a minute."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("exploration", [Exploration(0.8, 0.1)])
def test_drawn_frequencies_match_logged_probabilities(exploration: Exploration) -> None:
    rng, draws = np.random.default_rng(3), 200_000
    requests = [SCORES[:4], SCORES]  # drawn together, though not of the same length
    counts = [Counter[tuple[int, int]](), Counter[tuple[int, int]]()]
    for _ in range(draws // 1_000):
        for at, slate in enumerate(plackett_luce_all(requests * 1_000, exploration, [2, 3] * 1_000, rng)):
            counts[at % 2][slate.positions[0], slate.positions[1]] += 1
    for scores, drawn in zip(requests, counts, strict=True):
        for pair in itertools.permutations(range(len(scores)), 2):
            p = np.exp(log_probabilities(scores, np.array(pair), exploration)[-1])
            assert abs(drawn[pair] / draws - p) <= 4 * np.sqrt(p * (1 - p) / draws)


def test_requests_drawn_together_have_the_probabilities_each_has_alone() -> None:
    rng, exploration = np.random.default_rng(5), Exploration(0.3, 0.2)
    scores = [rng.normal(size=number).astype(np.float32) for number in (30, 1, 7, 0, 30, 2)]
    sizes = [6, 6, 6, 6, 2, 1]
    for _ in range(50):
        for each, size, slate in zip(scores, sizes, plackett_luce_all(scores, exploration, sizes, rng), strict=True):
            assert len(set(slate.positions.tolist())) == len(slate.positions) == min(size, len(each))
            assert slate.scores is each
            again = log_probabilities(each, slate.positions, exploration)
            np.testing.assert_allclose(slate.log_propensities, again, atol=1e-12)


def test_prefixes_are_the_marginals_of_longer_slates() -> None:
    exploration = Exploration(0.5, 0.2)
    prefix = np.exp(log_probabilities(SCORES, np.array([3, 1]), exploration)[0])
    longer = sum(np.exp(log_probabilities(SCORES, np.array([3, k]), exploration)[1]) for k in (0, 1, 2, 4))
    assert prefix == pytest.approx(longer, abs=1e-12)


def test_a_logged_slate_is_recomputed_from_its_log() -> None:
    rng, exploration = np.random.default_rng(0), Exploration()
    for _ in range(200):
        scores = rng.normal(size=30).astype(np.float32)
        slate = plackett_luce(scores, exploration, 6, rng)
        logged = np.array([float(score) for score in slate.scores], np.float32)
        again = log_probabilities(logged, slate.positions, exploration)
        np.testing.assert_array_equal(again, slate.log_propensities)
        assert (np.diff(again) <= 0).all()
        assert len(set(slate.positions.tolist())) == 6


def test_low_temperatures_keep_tiny_probabilities_exact() -> None:
    exploration = Exploration(temperature=0.01, epsilon=0.0)
    logits = (SCORES - SCORES.mean()) / SCORES.std() / 0.01
    worst = np.array([1, 2])
    by_hand = logits[1] - logits[3] + logits[2] - logits[3]
    assert log_probabilities(SCORES, worst, exploration)[-1] == pytest.approx(by_hand, rel=1e-5)


def test_each_slate_names_the_arm_that_drew_it() -> None:
    rng, best = np.random.default_rng(0), int(np.argmax(SCORES))
    slates = plackett_luce_all([SCORES] * 300, Exploration(1e-3, 0.5), [1] * 300, rng)
    drawn = Counter((slate.arm, int(slate.positions[0])) for slate in slates)
    assert {at for arm, at in drawn if arm == "policy"} == {best}
    assert {at for arm, at in drawn if arm == "uniform"} == set(range(len(SCORES)))


def test_what_is_left_over_counts_even_when_it_weighs_next_to_nothing() -> None:
    exploration = Exploration(temperature=1e-3, epsilon=0.0)  # the best one outweighs the others by e^1,700
    logits = (SCORES - SCORES.mean()) / SCORES.std() / 1e-3
    left = np.logaddexp.reduce(logits[[0, 1, 2, 4]])
    found = log_probabilities(SCORES, np.array([3, 1]), exploration)
    assert found[-1] - found[0] == pytest.approx(logits[1] - left, rel=1e-5)


def test_equal_scores_are_a_uniform_draw() -> None:
    scores = np.full(7, 0.1, np.float32)
    expected = [-np.log(7), -np.log(42)]
    np.testing.assert_allclose(log_probabilities(scores, np.array([2, 5]), Exploration()), expected)


def test_scale_and_offset_of_scores_do_not_matter() -> None:
    slate = np.array([3, 0, 2])
    expected = log_probabilities(SCORES, slate, Exploration())
    for scores in (SCORES * 1e20, SCORES * 1e-20, SCORES + 10):
        np.testing.assert_allclose(
            log_probabilities(scores.astype(np.float32), slate, Exploration()), expected, rtol=1e-4
        )


def test_greedy_takes_the_best_and_logs_zero() -> None:
    slate = plackett_luce(SCORES, Exploration(greedy=True), 3, np.random.default_rng(0))
    assert slate.positions.tolist() == [3, 0, 4]
    assert slate.log_propensities.tolist() == [0.0, 0.0, 0.0]
    assert slate.arm == "greedy"


def test_fewer_candidates_than_places_and_none_at_all() -> None:
    rng = np.random.default_rng(0)
    assert sorted(plackett_luce(SCORES[:2], Exploration(), 6, rng).positions.tolist()) == [0, 1]
    assert plackett_luce(SCORES[:2], Exploration(), 6, rng).log_propensities[-1] == pytest.approx(
        log_probabilities(SCORES[:2], np.array([0, 1]), Exploration())[0], abs=5
    )
    assert plackett_luce(SCORES[:0], Exploration(), 6, rng).positions.tolist() == []
    assert plackett_luce(SCORES[:1], Exploration(), 6, rng).log_propensities.tolist() == [0.0]


def test_epsilon_one_is_always_uniform() -> None:
    slate = plackett_luce(SCORES, Exploration(epsilon=1.0), 2, np.random.default_rng(0))
    assert slate.arm == "uniform"
    assert slate.log_propensities[-1] == pytest.approx(-np.log(20))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        plackett_luce(np.array([1.0, np.nan], np.float32), Exploration(), 1, np.random.default_rng(0))


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": float("nan")}, {"epsilon": 1.5}])
def test_exploration_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"temperature|epsilon"):
        Exploration(**settings)


def test_value_of_several_consumptions_is_probability_times_advantage() -> None:
    scores = scores_of([2.0, 1.0], [0.0, np.log(3)])
    np.testing.assert_allclose(slate_scores(scores, "value", "multi", 1), [1.0, 0.75], rtol=1e-6)
    np.testing.assert_allclose(slate_scores(scores, "p", "multi", 1), [0.5, 0.75], rtol=1e-6)
    np.testing.assert_allclose(slate_scores(scores, "a", "multi", 1), [2.0, 1.0])


@pytest.mark.parametrize("seed", range(20))
def test_single_consumption_finds_the_best_slate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = scores_of(rng.normal(size=7), rng.normal(size=7), a_empty=float(rng.normal()))
    v = np.exp(scores.choice.astype(np.float64))

    def value(contents: Iterable[int]) -> float:
        slate = list(contents)
        return float((v[slate] @ scores.advantage[slate] + scores.a_empty) / (v[slate].sum() + 1))

    best = max(itertools.combinations(range(7), 3), key=value)
    ranked = np.argsort(-slate_scores(scores, "value", "single", 3), kind="stable")[:3]
    assert value(ranked) == pytest.approx(value(best), abs=1e-6)
    assert slate_advantage(scores, 3) == pytest.approx(value(best), abs=1e-6)


@pytest.mark.parametrize("choice", [[-3.0, -1.0], [2.0, 900.0]])
def test_single_consumption_scores_are_weights_times_what_is_above_the_slate_advantage(choice: list[float]) -> None:
    scores = scores_of([1.0, 3.0], choice, a_empty=-0.5)
    weights = np.exp(np.array(choice) - choice_offset(scores))
    expected = weights * (scores.advantage - slate_advantage(scores, 1))
    np.testing.assert_allclose(slate_scores(scores, "value", "single", 1), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slate_scores(scores, "p", "single", 1), weights, rtol=1e-6)


def test_single_consumption_survives_huge_logits() -> None:
    scores = scores_of([1.0, 2.0, 0.5], [900.0, 900.0, -900.0])
    for rule in ("value", "p"):
        assert np.isfinite(slate_scores(scores, rule, "single", 2)).all()
    assert np.isfinite(slate_scores(scores, "value", "multi", 2)).all()
