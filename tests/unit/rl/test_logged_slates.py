"""What other policies would have done with logged requests."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.schema import Impression
from libs.rl.logged_slates import difference, exclusion, largest_difference, logged_slates, policies
from libs.rl.slates import Exploration, log_probabilities
from tests.builders import drawn, impression


def logged(
    scores: list[float], size: int, temperature: float = 0.25, epsilon: float = 0.02, seed: int = 0
) -> Impression:
    return drawn(scores, size, np.random.default_rng(seed), Exploration(temperature, epsilon))


SCORES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12)


@given(st.lists(st.tuples(SCORES, st.integers(1, 12), st.floats(0.05, 5), st.floats(0, 1)), min_size=1, max_size=4))
def test_many_slates_at_once_have_the_probabilities_of_one_at_a_time(
    rows: list[tuple[list[float], int, float, float]],
) -> None:
    events = [logged(scores, size, temperature, epsilon) for scores, size, temperature, epsilon in rows]
    for name, found in policies(logged_slates(events, 12)).items():
        for event, row in zip(events, found, strict=True):
            places = np.array([event.candidates.index(content_id) for content_id in event.slate])
            other = Exploration(1.0, 1.0) if name == "uniform" else Exploration(event.temperature / 2, 0.0)
            alone = log_probabilities(np.array(event.scores, np.float32), places, other)
            np.testing.assert_allclose(row[: len(places)], alone, rtol=1e-4, atol=1e-4)
            assert not row[len(places) :].any()


def test_half_the_temperature_of_two_candidates_by_hand() -> None:
    event = logged([1.0, 0.0], 2, temperature=2.0, epsilon=0.5, seed=3)
    assert event.slate == (1, 2)
    found = policies(logged_slates([event], 2))
    # Standardised scores are ±1, so that exploiting at T = 1 prefers the first by e to the power of 2.
    assert found["exploit"][0].tolist() == pytest.approx([-np.log1p(np.exp(-2.0))] * 2)
    assert found["uniform"][0].tolist() == pytest.approx([-np.log(2)] * 2)


def test_a_cut_slate_is_a_prefix_with_a_probability_of_its_own() -> None:
    event = logged([3.0, 2.0, 1.0, 0.0], 4, temperature=1.0)
    whole, cut = logged_slates([event], 4), logged_slates([event], 2)
    assert cut.log_propensities[0].tolist() == pytest.approx(whole.log_propensities[0, :2].tolist())
    for name, found in policies(cut).items():
        assert found[0].tolist() == pytest.approx(policies(whole)[name][0, :2].tolist())


def test_what_was_logged_follows_from_the_logged_scores_and_a_changed_one_is_noticed() -> None:
    events = [logged(np.random.default_rng(seed).normal(size=9).tolist(), 4, seed=seed) for seed in range(20)]
    assert largest_difference(logged_slates(events, 12)) < 1e-5
    assert max(map(difference, events)) < 1e-9
    rotten = replace(events[3], log_propensities=tuple(each - 0.01 for each in events[3].log_propensities))
    assert largest_difference(logged_slates([*events, rotten], 12)) == pytest.approx(0.01, rel=1e-2)
    assert difference(rotten) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (logged([1.0, 0.0], 1), None),
        (logged([1.0], 1), None),  # one candidate: sure, and as sure under any policy
        (impression(), "unlogged"),
        (impression(scores=(1.0, 2.0, 3.0), temperature=0.25), "greedy"),
        (impression(scores=(1.0, 2.0, 3.0), temperature=0.25, arm="policy"), "greedy"),
        (impression(slate=(1,), scores=(1.0,), temperature=0.25), "greedy"),
        (impression(arm="external", log_propensities=(), candidates=()), "external"),
        (impression(arm="policy", scores=(1.0, 2.0, 3.0), log_propensities=(-1.0, -2.0, -3.0)), "unlogged"),
    ],
    ids=[
        "drawn",
        "one candidate",
        "no scores",
        "greedy arm",
        "all zero",
        "greedy, one candidate",
        "external",
        "no temperature",
    ],
)
def test_what_says_nothing_about_another_policy_stays_out(event: Impression, reason: str | None) -> None:
    assert exclusion(event) == reason
