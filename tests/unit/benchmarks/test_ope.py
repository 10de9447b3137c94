"""The estimators where the answer is known, in the short form with fixed seeds."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks import open_bandit, simulated_slates
from benchmarks.harness import Bench
from benchmarks.ope import bandit_tally, own_weights, simulated_errors
from examples.wheels import DataUnavailable
from libs.rl.off_policy import estimates


@pytest.fixture(scope="module")
def bandit() -> open_bandit.OpenBandit:
    try:
        return open_bandit.load()
    except DataUnavailable as error:
        pytest.skip(f"the Open Bandit sample is not to be had here: {error}")


def test_open_bandit_gives_the_figure_that_was_published(bandit: open_bandit.OpenBandit) -> None:
    assert len(bandit.clicks) == 10_000
    assert bandit.clicks.sum() == 38
    assert set(bandit.propensities) == {1 / 80}
    assert bandit.thompson.sum(axis=0).tolist() == pytest.approx([1.0, 1.0, 1.0])
    found = estimates(bandit_tally(bandit), ("ips", "snips"))
    assert found["ips"].value == pytest.approx(0.004553, rel=0.01)
    assert found["ips"].usable
    assert found["snips"].value == pytest.approx(0.004776, rel=0.01)


def test_self_normalised_cascade_estimates_of_simulated_slates_are_near_the_truth() -> None:
    rng = np.random.default_rng(0)
    truths = {name: simulated_slates.truth(name, rng, 100_000) for name in simulated_slates.NAMES}
    bench = Bench("ope", console=Console(quiet=True))
    errors, sizes = simulated_errors(2_000, truths, rng, bench, repetitions=10)
    for name in simulated_slates.NAMES:
        found = [each for each in errors[name, "snrips"] if each is not None]
        assert len(found) == 10
        assert np.sqrt(np.mean(np.square(found))) <= 0.075
        assert np.mean(sizes[name, "snrips"]) > np.mean(sizes[name, "ips"])


def test_a_log_under_its_own_policy_has_weights_of_one() -> None:
    assert own_weights(200, seed=0) <= 1e-4
