import json
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from libs.rl.action_space import ActionSpace
from libs.rl.agent import Agent, AgentSettings
from libs.rl.batch import Draws, gather
from libs.rl.replay import key_of
from libs.rl.rewards import RewardSpec
from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption
from libs.rl.snapshot import decode, encode
from libs.rl.transitions import Closed, Opened, Organic, Retracted, State, Withdrawn
from libs.rl.update import forward
from tests.unit.rl.small_agent import SLATE, click, make_agent, opened, play


def test_a_click_is_in_the_very_next_update() -> None:
    agent = make_agent()
    agent.apply([opened("a")])
    assert agent.due() == agent.due(force=True) == 0
    agent.apply([click("a", 3, "event")])
    assert agent.untrained == 1
    assert agent.due() == 1
    report = agent.update()
    assert report.loss["choice"] > 0
    assert report.loss["u"] == report.loss["n"] == report.loss["a"] == 0
    assert agent.trained() == [("event", 1_000)]
    assert agent.trained() == []
    assert agent.untrained == 0


def test_clicked_contents_score_higher_in_the_next_snapshots() -> None:
    agent = make_agent()

    def choice() -> NDArray[np.float32]:
        scorer = Scorer(agent.snapshot(), agent.space)
        return scorer.score(State((5,), (0.0,)), agent.space.index(SLATE)).choice

    before = choice()
    for user in range(4):
        agent.apply([opened(f"u{user}"), click(f"u{user}", 3)])
    while agent.due(force=True):
        agent.update(agent.due(force=True))
    gain = choice() - before
    assert gain.argmax() == 2


def test_the_replay_ratio_is_a_cap_and_freshness_may_pass_it() -> None:
    agent = make_agent(replay_ratio=3.0)
    play(agent, 40)
    while batch := agent.due():
        agent.update(batch)
    assert agent.samples <= 3 * agent.inserted < agent.samples + 32
    assert not agent.ready()
    assert agent.due(force=True) == 0
    agent.apply([opened("late"), click("late", 2)])
    assert agent.due() == 0
    assert agent.due(force=True) == 32
    assert agent.due(replay_ratio=100.0) == 32
    agent.update(agent.due(force=True))
    assert ("late-2", 1_000) in agent.trained()


def test_learning_waits_for_enough_rows() -> None:
    agent = make_agent(learning_starts=3)
    agent.apply([opened("a"), click("a", 1), opened("b"), click("b", 1)])
    assert agent.due(force=True) == 0
    agent.apply([opened("c")])
    assert agent.due() == 2


def test_messages_about_rows_that_left_are_counted_and_harmless() -> None:
    agent = make_agent(capacity=2)
    agent.apply([opened("a"), opened("b"), opened("c"), click("a", 1), Closed("a"), Retracted("a")])
    assert (agent.rows, agent.lost, agent.untrained) == (2, 1, 0)
    agent.apply([opened("b")])
    assert agent.inserted == 3


def test_a_retracted_organic_row_takes_its_consumption_back() -> None:
    agent = make_agent()
    agent.apply([Organic("o", State((1,), (1.0,)), 7, {"like": 1.0}, 5), Organic("p", State(), 7, {"like": 1.0}, 5)])
    at = agent.space.index([7])[0]
    assert agent.popularity.consumptions[at] == 2
    agent.apply([Retracted("o")])
    assert agent.popularity.consumptions[at] == 1
    agent.update()
    assert agent.trained() == [("p", 5)]


def test_a_content_consumed_twice_in_one_row_counts_once() -> None:
    agent = make_agent()
    agent.apply([opened("a"), click("a", 2, "1"), click("a", 2, "2", {"like": 1.0})])
    assert agent.popularity.consumptions[agent.space.index([2])[0]] == 1


def test_a_withdrawn_consumption_is_not_counted_and_one_that_remains_is_said_again() -> None:
    agent = make_agent()
    at = agent.space.ensure([2])[0]
    agent.apply([opened("a"), click("a", 2, "1"), Withdrawn("a", 2), Withdrawn("gone", 2), Withdrawn("a", 99)])
    assert agent.popularity.consumptions[at] == 0
    agent.apply([click("a", 2, "2")])
    assert agent.popularity.consumptions[at] == 1


def test_a_row_keeps_the_counts_of_its_insertion() -> None:
    agent = make_agent()
    agent.apply([opened("a"), click("a", 2), opened("b"), click("b", 2)])
    counts = agent.replay.columns["log_count"]
    assert counts[0, :4].tolist() == [0, 0, 0, 0]
    assert counts[1, 1] == 0  # the only content ever consumed is the typical one
    assert counts[1, 0] == pytest.approx(-np.log(2), abs=1e-3)


def test_a_loop_of_equal_rewards_is_worth_r_over_one_minus_gamma() -> None:
    agent = make_agent(
        gamma=0.5, target_rate=0.1, id_dropout=0.0, batch_size=4, replay_ratio=1e9, lr=3e-3, lr_final=1e-3
    )
    for at in range(4):
        agent.apply([opened(f"r{at}"), click(f"r{at}", 1)])
    # The last one's next request is the first: inserted earlier, which a ring that is not full may refer to.
    agent.apply([Closed(f"r{at}", f"r{(at + 1) % 4}", 1.0) for at in range(4)])
    for _ in range(800):
        agent.update()
    scorer = Scorer(agent.snapshot(), agent.space)
    scores = scorer.score(State((5,), (0.0,)), agent.space.index([1]))
    assert scores.u == pytest.approx(2.0, rel=0.02)
    assert scores.n == pytest.approx(1.0, rel=0.03)
    assert scores.advantage[0] == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("consumption", ["multi", "single"])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_learning_finds_what_is_liked(consumption: Consumption, gamma: float) -> None:
    agent = make_agent(consumption=consumption, gamma=gamma, replay_ratio=50.0)
    play(agent)
    while batch := agent.due():
        report = agent.update(batch)
    assert report.finite
    scores = Scorer(agent.snapshot(), agent.space).score(State((2,), (0.0,)), agent.space.index(list(range(1, 9))))
    assert scores.choice[::2].min() > scores.choice[1::2].max()


def test_numpy_scores_are_those_of_the_network() -> None:
    agent = make_agent(replay_ratio=50.0)
    play(agent)
    while due := agent.due():
        agent.update(due)
    state = State((3, 1, 8), (0.0, 3600.0, 36000.0))
    agent.apply([Opened("x", state, (1, 2, 3, 4, 5, 6), ())])
    batch = gather(agent.replay, np.array([agent.replay.slot(key_of("x"))]), RewardSpec())
    counts = agent.popularity.consumptions[batch.slate]
    batch.log_count[:] = np.log1p(counts) - agent.popularity.centre  # the row holds them in half precision
    kept, none = np.ones(1, np.bool_), np.zeros((0, 1), np.int64)
    draws = Draws(kept, kept, none, none, np.zeros((0, 1), np.bool_), np.zeros((0, 1), np.float32))
    with torch.no_grad():
        there = forward(agent.network, agent.tables, agent.space, batch, draws, agent.popularity.centre)
    blob = encode(agent.snapshot())
    other = ActionSpace(8)  # another process: other indices
    for content_id in range(8, 0, -1):
        other.put(content_id, agent.space.vectors[agent.space.index([content_id])[0]])
    scorer = Scorer(decode(blob, sha256(blob).hexdigest(), 8), other)
    here = scorer.score(state, other.index((1, 2, 3, 4, 5, 6)))
    choice = there.choice[0] - agent.network.rank_bias.detach()[:6]
    np.testing.assert_allclose(here.advantage, there.advantage[0], atol=1e-4)
    np.testing.assert_allclose(here.choice, choice, atol=1e-4)
    np.testing.assert_allclose([here.u, here.n, here.a_empty], there.values[0], atol=1e-4)


def test_a_snapshot_does_not_change_when_learning_goes_on() -> None:
    agent = make_agent()
    play(agent, 20)
    agent.update()
    snapshot = agent.snapshot()
    before = encode(snapshot)
    agent.update()
    assert sorted(encode(snapshot)) == sorted(before)
    assert set(snapshot.content_ids.tolist()) == set(range(1, 9))


def test_restored_agents_go_on_bit_for_bit() -> None:
    agent = make_agent(capacity=100)
    play(agent, 90)
    for _ in range(5):
        agent.update()
    agent.apply([opened("open"), click("open", 2, "waiting"), Closed("open", "not yet", 4.0)])
    arrays, meta = agent.state()
    twin = Agent.restore(agent.settings, arrays, json.loads(json.dumps(meta)))
    for one in (agent, twin):
        one.apply([opened("not yet"), click("not yet", 3), Organic("o", State((2,), (1.0,)), 11, {"like": 1.0}, 1)])
    for _ in range(5):
        assert agent.update() == twin.update()
    assert agent.trained() == twin.trained()
    (ours, our_meta), (theirs, their_meta) = agent.state(), twin.state()
    assert our_meta == their_meta
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_a_state_is_a_copy() -> None:
    agent = make_agent()
    play(agent, 30)
    agent.update()
    arrays, _ = agent.state()
    before = {name: array.copy() for name, array in arrays.items()}
    play(agent, 30, seed=9)
    agent.update()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_a_fresh_agent_can_be_saved_and_restored() -> None:
    agent = make_agent()
    twin = Agent.restore(agent.settings, *agent.state())
    play(agent, 10)
    play(twin, 10)
    assert agent.update() == twin.update()


def test_a_buffer_of_another_capacity_is_refused_by_name() -> None:
    agent = make_agent(capacity=100)
    with pytest.raises(ValueError, match="capacity"):
        Agent.restore(AgentSettings(capacity=50), *agent.state())


def test_a_gradient_that_is_not_finite_changes_nothing_and_says_so() -> None:
    agent = make_agent()
    play(agent, 10)
    agent.update()
    agent.network.rank_bias.data[0] = float("nan")
    before = agent.network.middle.weight.clone()
    agent.apply([opened("x"), click("x", 1, "kept")])
    agent.trained()
    report = agent.update()
    assert not report.finite
    assert torch.equal(before, agent.network.middle.weight)
    assert agent.trained() == []
    assert agent.untrained > 0


def test_rewards_declared_anew_apply_to_rows_already_there() -> None:
    agent = make_agent()
    play(agent, 10)
    arrays, meta = agent.state()
    again = Agent.restore(
        AgentSettings(capacity=500, learning_starts=1, reward=RewardSpec({"click": 2.0})), arrays, meta
    )
    slots = np.array([0, 2, 3, 4])  # 1 is the like
    np.testing.assert_array_equal(
        gather(again.replay, slots, again.settings.reward).rewards,
        2 * gather(agent.replay, slots, agent.settings.reward).rewards,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 1.0),
        ("tau_s", 0.0),
        ("batch_size", 0),
        ("replay_ratio", float("nan")),
        ("consumption", "many"),
        ("lr", -1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Exception, match=name):
        AgentSettings(**{name: value})
