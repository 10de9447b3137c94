from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import choc_kale_world as world
from benchmarks.choc_kale_classic import Classic
from benchmarks.choc_kale_play import (
    SHARE,
    Crowd,
    Ours,
    Rhythm,
    Step,
    one_dimensional,
    product_shape,
)
from libs.rl.agent import Agent
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration
from libs.rl.transitions import State

WITHIN = 0.005


def mean_return(policy: world.Policy) -> float:
    return float(world.returns(policy, 4_000, np.random.default_rng(0)).mean())


def test_the_world_has_the_known_optimum() -> None:
    assert world.optimum() == pytest.approx(1_304, rel=WITHIN)


@pytest.mark.parametrize(
    ("policy", "known"), [(world.most_chocolate, 626), (world.most_kale, 1_286), (world.anything, 962)]
)
def test_policies_without_learning_bring_what_is_known(policy: world.Policy, known: float) -> None:
    assert mean_return(policy) == pytest.approx(known, rel=WITHIN)


def test_engagement_is_what_it_is_expected_to_be() -> None:
    npe, c = np.full(200_000, 1.0), np.full(200_000, 0.3)
    drawn = world.engagement(npe, c, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(world.expected_engagement(npe, c)[0], rel=0.01)


def test_the_direction_of_c_holds_its_share_of_the_norm() -> None:
    catalogue = product_shape(seed=0, contents=2_000, size=50)
    centred = catalogue.c - 0.5
    flavour = catalogue.vectors.T @ centred
    along = catalogue.vectors @ (flavour / np.linalg.norm(flavour))
    assert np.sqrt(np.mean(along**2)) == pytest.approx(SHARE, abs=0.03)
    assert np.mean(np.linalg.norm(catalogue.vectors, axis=1)) == pytest.approx(1.0, abs=0.02)
    assert abs(np.corrcoef(along, catalogue.c)[0, 1]) > 0.9


class Script:
    """Always shows the first candidate and writes down what it is told."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def choose(self, state: State, candidates: Sequence[int]) -> int:
        assert len(candidates) == world.CANDIDATES
        return candidates[0]

    def tell(self, step: Step) -> None:
        self.steps.append(step)

    def learn(self) -> None:
        pass


def test_a_user_consumes_sixty_contents_and_makes_room() -> None:
    script = Script()
    crowd = Crowd(one_dimensional(0), Rhythm(60.0, tells_step=True), users=3, seed=0, staggered=False)
    crowd.train(script, 3 * 61)
    first = [step for step in script.steps if step.user == "u0"]
    assert [step.number for step in first] == list(range(60))
    assert [step.last for step in first] == [False] * 59 + [True]
    assert {step.user for step in script.steps} == {f"u{number}" for number in range(6)}
    assert first[2].state.history == (first[1].content, first[0].content)
    assert first[2].state.history_age_s == (60.0, 120.0)
    assert first[30].state.context == {"step": 0.5}
    assert len(first[59].state.history) == 30


def test_every_consumption_is_a_row_that_goes_on_until_the_last() -> None:
    catalogue = one_dimensional(0)
    agent = Agent(AgentSettings(capacity=1_000, learning_starts=10_000, consumption="single"), 2)
    ranker = Ours(agent, catalogue, gap_s=60.0, exploration=Exploration(), refresh=1, seed=0)
    Crowd(catalogue, Rhythm(60.0), users=2, seed=0, staggered=False).train(ranker, 2 * 60)
    slots = np.flatnonzero(agent.replay.columns["chosen"][:120, 0])
    status, rewards = agent.replay.columns["status"][slots], agent.replay.columns["terms"][slots, 0]
    assert agent.inserted == len(slots) == 120
    assert np.bincount(status).tolist() == [0, 0, 2, 118]  # ended, continued
    assert set(agent.replay.columns["gap_s"][slots][status == 3]) == {60.0}
    assert (rewards > 0).sum() == 2 * 120  # a click and what it brought


def test_the_classic_design_learns_what_a_content_is_worth_now() -> None:
    catalogue = one_dimensional(0, contents=1_000)
    classic, rng = Classic(catalogue.vectors, weight=1.0, seed=0), np.random.default_rng(0)
    state = State((500,), (60.0,))
    for number, content in enumerate(rng.integers(0, 1_000, 1_500).tolist()):
        reward = float(catalogue.c[content])
        classic.tell(Step("u", number, state, content, reward, last=False))
    assert classic.greedy()(state, [100, 900, 500]) == 900
