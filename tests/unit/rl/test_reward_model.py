"""What the choice head expects of slates."""

import numpy as np
import pytest

from libs.rl.reward_model import consumption_of, expected_consumption

CHOICE = np.array([np.log(3.0), 0.0, -np.log(3.0)], np.float32)  # ¾, ½ and ¼ on their own


def test_what_is_consumed_of_a_slate_by_hand() -> None:
    slate = np.array([0, 2])
    assert consumption_of(CHOICE, slate, "multi") == pytest.approx(3 / 4 + 1 / 4)
    assert consumption_of(CHOICE, slate, "single") == pytest.approx((3 + 1 / 3) / (1 + 3 + 1 / 3))


@pytest.mark.parametrize(
    ("epsilon", "expected"), [(0.0, (3 / 4 * np.e + 1 / 4 / np.e) / (np.e + 1 / np.e)), (1.0, 1 / 2)]
)
def test_a_policys_slates_are_expected_as_often_as_it_draws_them(epsilon: float, expected: float) -> None:
    """Two candidates at standardised scores ±1, one position: e to e⁻¹ by preference, half and half at random."""
    rng = np.random.default_rng(0)
    choice, scores = CHOICE[[0, 2]], np.array([1.0, 0.0], np.float32)
    found = [expected_consumption(choice, scores, 1.0, epsilon, 1, "multi", rng) for _ in range(2_000)]
    assert np.mean(found) == pytest.approx(expected, abs=0.01)


def test_a_slate_of_everything_is_certain() -> None:
    scores = np.array([1.0, 0.5, 0.0], np.float32)
    found = expected_consumption(CHOICE, scores, 0.1, 0.5, 3, "multi", np.random.default_rng(0))
    assert found == pytest.approx(3 / 2)
