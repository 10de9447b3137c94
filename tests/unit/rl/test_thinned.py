"""Histories of which an update sees a part."""

import numpy as np
import pytest

from libs.rl.agent import Agent
from libs.rl.batch import gather, thinned
from libs.rl.settings import AgentSettings
from libs.rl.transitions import Organic, State

HISTORY = tuple(range(100, 130))


def agent_with_rows(rows: int, settings: AgentSettings | None = None) -> Agent:
    agent = Agent(settings or AgentSettings(capacity=1_000), vector_size=4, seed=0)
    state = State(HISTORY, tuple(60.0 * at for at in range(len(HISTORY))))
    agent.apply([Organic(f"o{row}", state, 1 + row % 5, {"like": 1.0}, 0) for row in range(rows)])
    return agent


def test_each_content_is_forgotten_by_its_own_chance_with_its_weight() -> None:
    agent = agent_with_rows(200)
    batch = gather(agent.replay, np.arange(200), agent.settings.reward)
    seen = thinned(batch, 0.4, np.random.default_rng(0))

    kept = seen.users.history > 0
    assert kept.mean() == pytest.approx(0.6, abs=0.025)  # four standard errors
    assert kept.mean(axis=0) == pytest.approx(np.full(30, 0.6), abs=0.15)
    assert (seen.users.history[kept] == batch.users.history[kept]).all()
    assert (seen.users.weights[kept] == batch.users.weights[kept]).all()
    assert not seen.users.weights[~kept].any()
    assert seen.slate is batch.slate
    assert seen.next_users is batch.next_users  # what a value is learned from is seen whole


def test_nothing_is_forgotten_by_default() -> None:
    agent = agent_with_rows(3)
    batch = gather(agent.replay, np.arange(3), agent.settings.reward)
    assert thinned(batch, agent.settings.history_dropout, agent.rng) is batch


def test_an_update_forgets_as_much_as_was_set() -> None:
    moved = {}
    for share in (0.0, 0.9):
        agent = agent_with_rows(2, AgentSettings(capacity=1_000, learning_starts=1, history_dropout=share))
        agent.update()
        moved[share] = int((agent.tables.user_adam.steps > 0).sum())
    assert moved[0.0] == len(HISTORY)
    assert moved[0.9] < len(HISTORY) / 2


def test_all_of_a_history_cannot_be_forgotten() -> None:
    with pytest.raises(ValueError, match="history_dropout"):
        AgentSettings(history_dropout=1.0)
