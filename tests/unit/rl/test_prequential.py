"""Choice predictions judged by what was consumed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.rl.prequential import ChoiceTally, choice_probabilities, choice_tally

SHOWN = np.ones((2, 2), np.bool_)


def judged(probabilities: list[float], consumed: list[int]) -> ChoiceTally:
    predicted = np.array([probabilities])
    return choice_tally(predicted, np.ones(predicted.shape, np.bool_), np.array([consumed]) > 0)


def test_four_predictions_by_hand() -> None:
    found = judged([0.8, 0.6, 0.4, 0.2], [1, 0, 1, 0])
    assert found.logloss == pytest.approx(-(math.log(0.8) + math.log(0.4) + math.log(0.4) + math.log(0.8)) / 4)
    assert found.base_rate == 0.5
    assert found.normalised_logloss == pytest.approx(found.logloss / math.log(2))
    assert found.auc == 3 / 4  # of four pairs, only 0.4 against 0.6 is the wrong way round
    assert found.calibration_error == pytest.approx((0.2 + 0.6 + 0.6 + 0.2) / 4)  # each prediction its own group


def test_who_knows_only_the_base_rate_scores_one_and_a_half() -> None:
    found = judged([0.25] * 4, [1, 0, 0, 0])
    assert found.normalised_logloss == pytest.approx(1.0)
    assert found.auc == 0.5
    assert found.calibration_error == pytest.approx(0.0, abs=1e-12)


def test_calibration_is_of_groups_and_not_of_single_outcomes() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(50_000)
    outcomes = rng.random(50_000) < probabilities
    assert judged(probabilities.tolist(), outcomes.tolist()).calibration_error < 0.01
    squared = judged((probabilities**2).tolist(), outcomes.tolist())
    assert squared.calibration_error == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_the_choice_models_by_hand() -> None:
    logits = np.array([[0.0, math.log(3.0)], [math.log(2.0), 0.0]])
    shown = np.array([[True, True], [True, False]])
    multi = choice_probabilities(logits, shown, "multi")
    assert multi.tolist() == [pytest.approx([1 / 2, 3 / 4]), pytest.approx([2 / 3, 0.0])]
    single = choice_probabilities(logits, shown, "single")
    assert single.tolist() == [pytest.approx([1 / 5, 3 / 5]), pytest.approx([2 / 3, 0.0])]


def test_what_was_not_shown_is_not_judged() -> None:
    found = choice_tally(np.full((2, 2), 0.5), np.array([[True, False], [False, False]]), SHOWN)
    assert (found.n, found.base_rate) == (1, 1.0)


def test_without_predictions_there_are_no_numbers() -> None:
    nothing = ChoiceTally.empty()
    for value in (nothing.logloss, nothing.auc, nothing.calibration_error, nothing.normalised_logloss):
        assert math.isnan(value)
    assert math.isnan(judged([0.5], [1]).auc)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=20), st.integers(0, 20))
def test_tallies_add_up_and_the_area_is_that_of_all_pairs(rows: list[tuple[float, bool]], split: int) -> None:
    probabilities, consumed = [p for p, _ in rows], [int(c) for _, c in rows]
    whole = judged(probabilities, consumed)
    parts = judged(probabilities[:split], consumed[:split]) + judged(probabilities[split:], consumed[split:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert parts.loss == pytest.approx(whole.loss)
    pairs = [(a, b) for a, won in rows if won for b, other in rows if not other]
    if pairs and all(abs(_logit(a) - _logit(b)) > 0.04 or a == b for a, b in pairs):
        assert whole.auc == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))


def _logit(p: float) -> float:
    safe = min(max(p, 1e-12), 1 - 1e-12)
    return max(-10.0, min(9.97, math.log(safe / (1 - safe))))
