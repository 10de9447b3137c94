"""Conservative Q-learning: what was offered and never tried is not praised."""

import math

import numpy as np
import pytest
import torch

from libs.rl.batch import gather, offers_of, without_chance
from libs.rl.losses import soft_maximum
from libs.rl.objective import loss_parts
from libs.rl.scoring import Scorer
from libs.rl.transitions import Closed, Opened, State
from libs.rl.update import forward
from tests.unit.rl.small_agent import click, make_agent

HERE = State((5,), (60.0,))


def test_the_soft_maximum_is_over_what_was_offered() -> None:
    values = np.array([[0.0, math.log(3), 50.0]])
    assert soft_maximum(values, np.array([[True, True, False]]))[0].item() == pytest.approx(math.log(4))


def test_the_penalty_by_hand() -> None:
    agent = make_agent(cql_weight=0.5)
    agent.apply([Opened("a", HERE, (1, 2), (1, 2, 3)), click("a", 1), Closed("a")])
    agent.apply([Opened("open", HERE, (1, 2), (1, 2, 3)), click("open", 2)])  # its values are not known yet
    agent.make_room()
    agent.tables.user_adam.steps += 1  # a snapshot leaves out what nothing has taught
    with torch.no_grad():
        agent.network.heads.weight.normal_(generator=torch.Generator().manual_seed(1))
    slots = np.array([0, 1])
    batch = gather(agent.replay, slots, agent.settings.reward)
    object.__setattr__(batch, "offers", offers_of(agent.replay, slots, agent.popularity))
    chance = without_chance(batch)
    outputs = forward(agent.network, agent.tables, agent.space, batch, chance, agent.popularity.centre)
    offered = outputs.offered[0, :3].detach().numpy()
    alone = Scorer(agent.snapshot(), agent.space).score(HERE, agent.space.index((1, 2, 3))).advantage
    np.testing.assert_allclose(offered, alone, atol=1e-4)
    parts = loss_parts(outputs, torch.zeros(2), batch, chance, agent.settings)
    by_hand = np.log(np.exp(offered).sum()) - outputs.advantage[0, 0].item()
    assert parts["conservative"].item() == pytest.approx(by_hand, rel=1e-5)
    others = sum(parts[name].item() for name in ("u", "n", "a", "a_empty", "choice"))
    assert parts["total"].item() == pytest.approx(others + 0.5 * by_hand, rel=1e-5)


def test_what_was_never_tried_is_valued_below_what_was() -> None:
    spread = {}
    for weight in (0.0, 1.0):
        agent = make_agent(cql_weight=weight, gamma=0.0, id_dropout=0.0)
        for at in range(40):
            agent.apply([Opened(f"r{at}", HERE, (1,), (1, 2, 3, 4)), click(f"r{at}", 1), Closed(f"r{at}")])
        for _ in range(60):
            agent.update(32)
        said = Scorer(agent.snapshot(), agent.space).score(HERE, agent.space.index((1, 2, 3, 4))).advantage
        spread[weight] = float(said[0] - said[1:].max())
    assert spread[1.0] > spread[0.0] + 0.5
