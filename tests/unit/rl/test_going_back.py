"""What was learned can be taken back to where it was sound."""

import numpy as np
import torch

from libs.rl import agent_state
from libs.rl.agent import Agent
from tests.unit.rl.small_agent import make_agent, play


def assert_learned_the_same(agent: Agent, twin: Agent) -> None:
    ours, theirs = agent_state.learned(agent), agent_state.learned(twin)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_going_back_forgets_what_was_learned_and_keeps_what_came_in() -> None:
    agent, twin = make_agent(), make_agent()
    for each in (agent, twin):
        play(each, 40)
        for _ in range(5):
            each.update()
        each.keep()
    agent.optimiser.weight_decay = 1e3  # what could ruin weights
    agent.update()
    with torch.no_grad():
        agent.network.heads.weight.fill_(float("inf"))
        agent.target["value_in.weight"].fill_(float("nan"))
        agent.tables.content.fill_(1e30)
    agent.go_back()
    twin.update()  # the same draws
    assert agent.updates == twin.updates
    agent.optimiser.weight_decay = agent.settings.weight_decay
    twin.go_back()
    for each in (agent, twin):
        each.update()
    assert_learned_the_same(agent, twin)


def test_an_agent_without_a_kept_state_goes_back_to_its_first_weights() -> None:
    agent, fresh = make_agent(), make_agent()
    play(agent, 40)
    first = {name: tensor.clone() for name, tensor in fresh.network.state_dict().items()}
    for _ in range(5):
        agent.update()
    agent.go_back()
    assert all(torch.equal(tensor, first[name]) for name, tensor in agent.network.state_dict().items())
