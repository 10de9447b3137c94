"""Slates of a greedy policy in batches: the same as one request at a time, and their value by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from libs.rl.agent import Agent
from libs.rl.batch import gather
from libs.rl.greedy import best_slate, slate_value
from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption, Scores, slate_scores
from libs.rl.transitions import Closed, Opened, State
from tests.unit.rl.small_agent import SLATE, click, make_agent, play


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def test_single_consumption_weighs_advantages_by_the_chance_of_each_choice_and_of_none() -> None:
    choice = row(math.log(2), math.log(3), 5.0)
    shown = torch.tensor([[True, True, False]])
    value = slate_value(row(1.0, 4.0, 99.0), choice, row(10.0)[0], row(-6.0)[0], shown, "single")
    assert value.item() == pytest.approx(10 + (2 * 1 + 3 * 4 + 1 * -6) / (2 + 3 + 1), rel=1e-6)


def test_multi_consumption_adds_advantages_and_knows_that_nothing_may_be_consumed() -> None:
    choice = row(0.0, math.log(3), 7.0)
    shown = torch.tensor([[True, True, False]])
    value = slate_value(row(1.0, 4.0, 99.0), choice, row(10.0)[0], row(-6.0)[0], shown, "multi")
    assert value.item() == pytest.approx(10 + 0.5 * 1 + 0.75 * 4 + 0.5 * 0.25 * -6, rel=1e-6)


def test_logits_of_any_size_leave_the_value_finite() -> None:
    shown = torch.ones(1, 2, dtype=torch.bool)
    value = slate_value(row(1.0, 2.0), row(800.0, -800.0), row(0.0)[0], row(0.0)[0], shown, "single")
    assert value.item() == pytest.approx(1.0)
    value = slate_value(row(1.0, 2.0), row(-800.0, -800.0), row(0.0)[0], row(0.5)[0], shown, "single")
    assert value.item() == pytest.approx(0.5)


@pytest.mark.parametrize("consumption", ["multi", "single"])
def test_whole_batches_choose_what_serving_would_choose_for_each_request(consumption: Consumption) -> None:
    rng = np.random.default_rng(0)
    rows, width = 64, 12
    advantage, choice = rng.normal(1, 1, (2, rows, width)).astype(np.float32)
    a_empty, size = rng.normal(0, 1, rows).astype(np.float32), rng.integers(1, 7, rows)
    offered = np.arange(width) < rng.integers(1, width + 1, rows)[:, None]
    best = best_slate(
        torch.from_numpy(advantage),
        torch.from_numpy(choice),
        torch.from_numpy(a_empty),
        torch.from_numpy(offered),
        torch.from_numpy(size),
        consumption,
    ).numpy()
    for at in range(rows):
        known = offered[at]
        said = Scores(advantage[at, known], choice[at, known], 0.0, 0.0, float(a_empty[at]))
        scores = slate_scores(said, "value", consumption, int(size[at]))
        expected = set(np.argsort(-scores, kind="stable")[: size[at]].tolist())
        assert set(np.flatnonzero(best[at]).tolist()) == expected


def test_the_best_single_slate_leaves_out_what_would_crowd_out_a_better_choice() -> None:
    # Alone the second content is worth less than the value of showing the first one only to a user who always takes it.
    advantage, choice = row(10.0, 1.0, 0.0), row(3.0, 2.0, -3.0)
    offered = torch.ones(1, 3, dtype=torch.bool)
    best = best_slate(advantage, choice, row(0.0)[0], offered, torch.tensor([2]), "single")
    assert best.tolist() == [[True, False, True]]


# --- as a target of the agent ----------------------------------------------------------------------------------------


def greedy_agent(**settings: Any) -> Agent:
    agent = make_agent(target="greedy", gamma=0.5, tau_s=30.0, id_dropout=0.0, **settings)
    generator = torch.Generator().manual_seed(3)
    agent.make_room()
    agent.tables.user_adam.steps += 1  # a snapshot leaves out what nothing has taught
    with torch.no_grad():
        for parameter in agent.network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for tensor in agent.target.values():
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return agent


def continuation(agent: Agent) -> float:
    batch = gather(agent.replay, np.array([0]), agent.settings.reward)
    return agent._continuation(batch)[0].item()


def by_hand(agent: Agent, history: tuple[int, ...], offered: tuple[int, ...], size: int) -> float:
    """The next request, chosen by the online network and judged by the target network, through serving's own scores."""
    online = agent.snapshot()
    weights = {name: tensor.numpy() for name, tensor in agent.target.items()}
    state, at = State(history, tuple(0.0 for _ in history)), agent.space.index(offered)
    consumption = agent.settings.consumption
    choosing = Scorer(online, agent.space).score(state, at)
    judging = Scorer(replace(online, weights=weights), agent.space).score(state, at)
    best = np.argsort(-slate_scores(choosing, "value", consumption, size), kind="stable")[:size]
    value = slate_value(
        torch.from_numpy(judging.advantage[None, best].astype(np.float32)),
        torch.from_numpy(judging.choice[None, best].astype(np.float32)),
        torch.tensor([judging.n]),
        torch.tensor([judging.a_empty]),
        torch.ones(1, size, dtype=torch.bool),
        consumption,
    )
    return value.item()


@pytest.mark.parametrize("consumption", ["multi", "single"])
def test_the_online_network_chooses_and_the_target_network_judges(consumption: Consumption) -> None:
    agent = greedy_agent(consumption=consumption)
    offered = (1, 2, 3, 4, 5, 6, 7)
    agent.apply([Opened("a", State((5,), (0.0,)), (1, 2)), click("a", 1)])
    agent.apply([Opened("b", State((6, 5), (0.0, 0.0)), (1, 2, 3), offered), Closed("a", "b", 30.0)])
    assert continuation(agent) == pytest.approx(0.5 * by_hand(agent, (6, 5), offered, 3), rel=1e-4)
    online_only = by_hand(agent, (6, 5), offered, 3)
    agent.target = {name: agent.network.weights()[name].clone() for name in agent.target}
    assert continuation(agent) != pytest.approx(0.5 * online_only, rel=1e-3)


def test_a_next_request_without_logged_candidates_is_worth_what_serving_makes_of_it() -> None:
    agent = greedy_agent()
    agent.apply([Opened("a", State((5,), (0.0,)), (1, 2)), click("a", 1)])
    agent.apply([Opened("b", State((6,), (0.0,)), (1, 2, 3)), Closed("a", "b", 30.0)])
    weights = {name: tensor.numpy() for name, tensor in agent.target.items()}
    judge = Scorer(replace(agent.snapshot(), weights=weights), agent.space)
    u = judge.score(State((6,), (0.0,)), agent.space.index((1,))).u
    assert continuation(agent) == pytest.approx(0.5 * u, rel=1e-4)


def test_greedy_learning_takes_over_the_online_network_and_survives_a_restart() -> None:
    agent = make_agent(target="greedy")
    play(agent, 60)
    before = agent.target["heads.weight"].clone()
    for _ in range(5):
        agent.update()
    assert not torch.equal(before, agent.target["heads.weight"])
    twin = Agent.restore(agent.settings, *agent.state())
    assert agent.update() == twin.update()


def test_an_agent_may_go_on_with_another_target() -> None:
    agent = make_agent()
    play(agent, 60)
    agent.update()
    greedy = Agent.restore(replace(agent.settings, target="greedy"), *agent.state())
    assert torch.equal(greedy.target["value_in.weight"], agent.target["value_in.weight"])
    assert torch.equal(greedy.target["heads.weight"], greedy.network.heads.weight)
    assert greedy.update().finite


def test_after_a_poor_policy_greedy_targets_see_what_a_good_one_would_have_earned() -> None:
    """Slates were drawn at random from a good content and bad ones; shown alone the good one earns every time."""
    values = {}
    for target in ("onpolicy", "greedy"):
        agent = make_agent(target=target, gamma=0.5, tau_s=30.0, id_dropout=0.0, target_rate=0.05)
        rng = np.random.default_rng(0)
        for at in range(300):
            shown = int(rng.integers(1, 5))
            agent.apply([Opened(f"r{at}", State((5,), (60.0,)), (shown,), SLATE)])
            agent.apply([click(f"r{at}", 1)] if shown == 1 else [])
            agent.apply([Closed(f"r{at}", f"r{at + 1}", 30.0)])
        for _ in range(400):
            agent.update(64)
        values[target] = Scorer(agent.snapshot(), agent.space).score(State((5,), (60.0,)), np.array([1], np.int32)).n
    assert values["onpolicy"] == pytest.approx(0.25 * 0.5 / 0.5, abs=0.1)  # a quarter of the requests earn 1
    assert values["greedy"] == pytest.approx(0.5 * 1 / 0.5, abs=0.2)  # all of them would
