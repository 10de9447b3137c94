"""Consumed contents compared with what was consumed elsewhere: whose turn it is, and what popularity explains."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from libs.rl.agent import Agent
from libs.rl.batch import ALTERNATIVES, Batch, Draws, draw, gather
from libs.rl.objective import loss_parts
from libs.rl.sampling import sample
from libs.rl.settings import AgentSettings
from libs.rl.transitions import Closed, Consumed, Opened, Organic, State
from libs.rl.update import forward


def agent_with_rows(settings: AgentSettings) -> Agent:
    """Three impressions, of which two got clicks, and one organic like."""
    agent = Agent(settings, vector_size=4, seed=0)
    for row, (slate, clicks) in enumerate((((1, 2, 3), (2, 3)), ((4, 5, 6), (6,)), ((7, 8, 9), ()))):
        agent.apply([Opened(f"r{row}", State((10,), (60.0,)), slate)])
        agent.apply([Consumed(f"r{row}", content, {"click": 1.0}, True, f"{row}-{content}", 0) for content in clicks])
        agent.apply([Closed(f"r{row}")])
    agent.apply([Organic("o", State((10,), (60.0,)), 2, {"like": 1.0}, 0)])
    return agent


def batch_and_draws(agent: Agent, compared: float, seed: int = 0) -> tuple[Batch, Draws]:
    slots = np.sort(sample(agent.replay, 16, np.random.default_rng(0)))
    batch = gather(agent.replay, slots, agent.settings.reward)
    return batch, draw(batch, agent.popularity.consumptions, 0.0, np.random.default_rng(seed), compared)


def test_only_organic_rows_are_compared_unless_asked_for() -> None:
    batch, draws = batch_and_draws(agent_with_rows(AgentSettings()), compared=0.0)
    assert draws.rows[:, 0].tolist() == np.flatnonzero(batch.organic).tolist() == [3]


def test_each_impression_brings_one_of_its_consumed_contents() -> None:
    agent = agent_with_rows(AgentSettings(compared=1.0))
    seen = set()
    for seed in range(30):
        batch, draws = batch_and_draws(agent, 1.0, seed)
        assert draws.rows[:, 0].tolist() == [0, 1, 3]  # row 2 consumed nothing
        assert draws.rows.shape == (3, 1 + ALTERNATIVES)
        assert batch.chosen[draws.rows, draws.positions].all()
        seen.add(int(agent.space.ids[batch.slate[0, draws.positions[0, 0]]]))
    assert seen == {2, 3}


def test_a_share_of_impressions_is_compared() -> None:
    agent = agent_with_rows(AgentSettings())
    counted = [len(batch_and_draws(agent, 0.25, seed)[1].rows) - 1 for seed in range(1_000)]
    assert np.mean(counted) == pytest.approx(2 * 0.25, abs=0.08)  # four standard errors


@pytest.mark.parametrize(("popular_wins", "sign"), [(True, -1.0), (False, 1.0)])
def test_how_much_popularity_explains_is_learned(popular_wins: bool, sign: float) -> None:
    """Contents that score alike: if the popular one is consumed, taking its frequency out again was too much."""
    agent = agent_with_rows(AgentSettings())
    batch, draws = batch_and_draws(agent, compared=0.0)
    logs: NDArray[np.float32] = np.log([[9.0, 1.0]] if popular_wins else [[1.0, 9.0]]).astype(np.float32)
    agent.tables.grow(len(agent.space))
    two = np.array([[3, 0]]), np.array([[0, 1]]), np.ones((1, 2), np.bool_)
    draws = Draws(draws.keep_user, draws.keep_content, *two, logs)
    outputs = forward(agent.network, agent.tables, agent.space, batch, draws, centre=0.0)
    with torch.no_grad():
        outputs.popularity_share.fill_(0.5)
    loss = loss_parts(outputs, torch.zeros(4), batch, draws, agent.settings)["organic"]
    loss.backward()  # type: ignore[no-untyped-call]

    corrected = outputs.organic.detach().numpy() - 0.5 * logs
    by_hand = np.log(np.exp(corrected - corrected[:, :1]).sum())
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    gradient = agent.network.popularity_share.grad
    assert gradient is not None
    assert -float(gradient) * sign > 0.1  # a step goes against the gradient


def test_the_share_learns_and_stays_with_the_learner() -> None:
    agent = agent_with_rows(AgentSettings(compared=1.0, learning_starts=1))
    for _ in range(5):
        agent.update()
    assert agent.network.popularity_share.item() != 1.0
    assert "popularity_share" not in agent.snapshot().weights
    again = Agent.restore(agent.settings, *agent.state())
    assert again.network.popularity_share.item() == agent.network.popularity_share.item()


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(ValueError, match="compared"):
        AgentSettings(compared=1.5)
