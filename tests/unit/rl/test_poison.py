"""A row whose gradient is not finite is found and taken out, and nothing else is lost with it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from libs.rl.agent import Agent
from libs.rl.poison import culprits
from libs.rl.replay import Status, key_of
from libs.rl.transitions import Closed, Organic, State
from tests.unit.rl.small_agent import click, make_agent, opened, play


def slot_of(agent: Agent, row_id: str) -> int:
    slot = agent.replay.slot(key_of(row_id))
    assert slot is not None
    return slot


def poison_context(agent: Agent) -> str:
    agent.replay.columns["context"][slot_of(agent, "r100"), 0] = np.nan
    return "r100"


def poison_terms(agent: Agent) -> str:
    agent.replay.columns["terms"][slot_of(agent, "r101"), 0, 0] = np.nan
    return "r101"


def poison_ages(agent: Agent) -> str:
    agent.replay.columns["age_h"][slot_of(agent, "o100")] = np.nan
    return "o100"


def update_until_not_finite(agent: Agent) -> None:
    for _ in range(50):
        if not agent.update(64).finite:
            return
    raise AssertionError("every gradient was finite")


@pytest.mark.parametrize(
    ("plant", "settings"),
    [
        (poison_context, {}),
        (poison_terms, {}),
        (poison_ages, {}),
        (poison_context, {"target": "greedy"}),
        (poison_context, {"cql_weight": 0.1, "compared": 1.0}),
    ],
)
def test_the_row_is_found_taken_out_and_named(plant: Callable[[Agent], str], settings: dict[str, Any]) -> None:
    agent = make_agent(**settings)
    play(agent)
    row_id = plant(agent)
    rows, eligible = agent.rows, agent.replay.eligible_rows
    update_until_not_finite(agent)
    agent.go_back()
    found = {each.key: each for each in agent.expel()}

    poisoned = found[key_of(row_id)]
    assert poisoned.faults
    assert poisoned.organic == row_id.startswith("o")
    assert agent.replay.slot(key_of(row_id)) is None
    assert len(found) <= 2  # itself, and the row whose story went on with it
    assert (agent.rows, agent.replay.eligible_rows) == (rows - len(found), eligible - len(found))
    assert all(agent.update(64).finite for _ in range(5))
    assert np.isfinite(agent.replay.columns["terms"]).all()


def test_a_vector_that_is_not_finite_is_forgotten_so_that_other_rows_stay() -> None:
    agent = make_agent()
    play(agent)
    at = int(agent.space.index((3,))[0])
    agent.space._vectors[at] = np.nan
    rows = agent.rows
    assert not agent.update(8).finite
    agent.go_back()
    found = agent.expel()

    assert found
    assert {content_id for each in found for content_id in each.contents} == {3}
    assert agent.rows == rows - len(found)
    assert not agent.space.has_vector[at]
    assert all(agent.update(64).finite for _ in range(5))


def test_what_nobody_has_learned_of_the_row_is_named() -> None:
    agent = make_agent()
    play(agent, 30)
    agent.apply([opened("bad"), click("bad", 2, "event-1"), Closed("bad")])
    agent.replay.columns["context"][slot_of(agent, "bad"), 1] = np.inf
    assert not agent.update(16).finite
    agent.go_back()
    (found,) = agent.expel()

    assert found.events == (("event-1", 1_000),)
    assert (found.slate, found.history, found.faults) == ((1, 2, 3, 4), (5,), ("context",))
    agent.update(16)
    assert "event-1" not in dict(agent.trained())
    lost = agent.lost
    agent.apply([click("bad", 3)])  # comes late, and finds no row
    assert agent.lost == lost + 1


def test_sound_rows_and_broken_weights_accuse_nobody() -> None:
    agent = make_agent()
    play(agent)
    agent.update(64)
    assert agent.expel() == []
    rng, counts = agent.rng.bit_generator.state, agent.replay.changes
    agent.weights.vector.data[0] = np.nan
    agent.replay.columns["context"][agent._sampled[0], 0] = np.nan
    assert agent.expel() == []
    assert (agent.rng.bit_generator.state, agent.replay.changes) == (rng, counts)


def test_looking_for_it_draws_nothing_and_leaves_no_gradient() -> None:
    ours, theirs = make_agent(), make_agent()
    for agent in (ours, theirs):
        play(agent)
        agent.update(64)
    assert ours.expel() == []
    for agent in (ours, theirs):
        agent.update(64)
    np.testing.assert_array_equal(ours.weights.vector.detach().numpy(), theirs.weights.vector.detach().numpy())


def test_it_stays_out_after_a_restart() -> None:
    agent = make_agent()
    play(agent)
    slot, row_id = slot_of(agent, "r100"), poison_context(agent)
    update_until_not_finite(agent)
    agent.go_back()
    agent.expel()
    restored = Agent.restore(agent.settings, *agent.state())

    assert restored.replay.slot(key_of(row_id)) is None
    assert restored.replay.columns["status"][slot] == Status.RETRACTED
    assert restored.replay.eligible_rows == agent.replay.eligible_rows
    assert all(restored.update(64).finite for _ in range(5))


def test_an_organic_row_in_a_batch_by_itself_is_judged_too() -> None:
    agent = make_agent()
    agent.apply([Organic("o", State((1,), (60.0,)), 7, {"like": 1.0}, 2_000)])
    agent.replay.columns["age_h"][0] = np.nan
    assert not agent.update(1).finite
    agent.go_back()
    (found,) = agent.expel()
    assert (found.organic, found.events, found.faults) == (True, (("o", 2_000),), ("age_h",))


@pytest.mark.parametrize("bad", [(), (0,), (6,), (0, 6), (2, 3), tuple(range(7))])
def test_halving_finds_exactly_those(bad: tuple[int, ...]) -> None:
    asked: list[int] = []

    def finite(some: np.ndarray) -> bool:
        asked.append(len(some))
        return not set(bad) & set(some.tolist())

    assert culprits(np.arange(7), finite).tolist() == list(bad)
    assert len(asked) <= max(1, 2 * 4 * len(bad))
