from dataclasses import replace

import numpy as np
import pytest

from benchmarks import slateq, slateq_world
from benchmarks.slateq_play import INTERESTS, Crowd, agent_of, best_slates, content_ids, score_many, slates
from benchmarks.slateq_world import (
    BUDGET_MIN,
    COST_MIN,
    NOTHING,
    SLATE,
    TOPICS,
    Sessions,
    choice_probabilities,
    drift,
    returns,
)
from libs.rl.replay import Status
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration
from libs.rl.transitions import State

BAD, GOOD = 0, TOPICS - 1


def test_a_random_slate_and_a_myopic_one_earn_what_the_papers_report() -> None:
    assert returns(slateq_world.random_policy(0), 10_000, seed=0).mean() == pytest.approx(160.5, abs=1.0)
    assert returns(slateq_world.myopic, 10_000, seed=0).mean() == pytest.approx(168.6, abs=1.5)


def test_pricing_the_budget_earns_what_is_known_of_the_oracle() -> None:
    assert returns(slateq_world.priced(slateq.PRICE), 2_000, seed=0).mean() == pytest.approx(280, abs=4)


def test_choice_is_proportional_to_interest_plus_one_and_two_for_nothing() -> None:
    interests = np.zeros((1, TOPICS))
    interests[0, :2] = 0.5, -0.5
    shares = choice_probabilities(interests, np.array([[0, 1, 2]]))
    np.testing.assert_allclose(shares, [[0.3, 0.1, 0.2, 0.4]])


def test_what_is_drawn_follows_the_shares() -> None:
    shares = np.tile([0.3, 0.1, 0.2, 0.4], (40_000, 1))
    drawn = slateq_world.choose(shares, np.random.default_rng(0))
    counts = [(drawn == position).mean() for position in (0, 1, 2, NOTHING)]
    np.testing.assert_allclose(counts, [0.3, 0.1, 0.2, 0.4], atol=0.01)


def test_interest_drifts_by_hand() -> None:
    rng = np.random.default_rng(0)
    moved = drift(np.zeros(20_000), rng)
    assert set(np.round(np.unique(moved), 9).tolist()) == {-0.3, 0.3}
    assert (moved > 0).mean() == pytest.approx(0.5, abs=0.015)
    assert (drift(np.full(20_000, 0.5), rng) > 0.5).mean() == pytest.approx(0.75, abs=0.015)
    assert np.unique(np.round(drift(np.full(100, 0.5), rng), 9)).tolist() == [0.425, 0.575]
    np.testing.assert_array_equal(drift(np.array([1.0, -1.0]), rng), [1.0, -1.0])


def test_what_is_consumed_is_paid_from_the_budget_by_its_quality() -> None:
    world = Sessions(3_000, np.random.default_rng(0))
    slate = np.tile([BAD, GOOD, GOOD - 1], (3_000, 1))
    outcome = world.step(slate)
    spent = BUDGET_MIN - world.budget_min
    assert np.all(spent[outcome.position == NOTHING] == 0.5)
    assert np.all(outcome.minutes == np.where(outcome.position == NOTHING, 0.0, 4.0))
    for position, topic in enumerate([BAD, GOOD, GOOD - 1]):
        assert spent[outcome.position == position].mean() == pytest.approx(COST_MIN[topic], abs=0.02)
    assert COST_MIN[BAD] == pytest.approx(4 * (1 + 3 * 0.9 / 3.4))


def test_a_session_ends_with_its_budget_and_watches_no_more_than_is_left() -> None:
    world = Sessions(500, np.random.default_rng(0))
    world.budget_min[:] = 1.0
    outcome = world.step(np.full((500, SLATE), BAD))
    watched = outcome.position != NOTHING
    assert np.all(outcome.minutes[watched] == 1.0)
    np.testing.assert_array_equal(outcome.ended, watched)
    again = world.step(np.full((500, SLATE), BAD))
    assert np.all(again.minutes[watched] == 0)
    world.renew(again.ended)
    assert np.all(world.budget_min[again.ended] == BUDGET_MIN)


def test_a_slate_never_holds_one_content_twice() -> None:
    topics = np.random.default_rng(0).integers(0, TOPICS, (200, 10))
    ids = content_ids(topics)
    assert all(len(set(row)) == 10 for row in ids.tolist())
    np.testing.assert_array_equal((ids - 1) // 10, topics)


def quick_crowd(seed: int = 0, rounds: int = 0, rule: str = "a") -> tuple[Crowd, np.ndarray]:
    settings = replace(
        slateq.SETTINGS, replay_ratio=6.0, target_rate=0.1, lr_decay_updates=1_000, lr_final=1e-4, capacity=50_000
    )
    agent = agent_of(settings, seed)
    crowd = Crowd(agent, slates(agent, "a" if rule == "a" else "value", Exploration(), seed), users=50, seed=seed)
    return crowd, crowd.train(rounds)


def test_the_agent_is_told_of_every_request_and_of_every_end() -> None:
    crowd, finished = quick_crowd(rounds=80)
    columns = crowd.agent.replay.columns
    rows = columns["status"][: crowd.agent.inserted]
    assert crowd.agent.inserted == 80 * 50
    assert len(finished) > 0
    assert (rows == Status.ENDED).sum() == len(finished)
    assert (rows == Status.OPEN).sum() == len([row for row in crowd._open if row is not None])
    minutes = columns["terms"][: crowd.agent.inserted].sum(axis=1)[:, 5]
    assert minutes.sum() == pytest.approx(finished.sum() + crowd.watched.sum(), rel=1e-5)
    assert crowd.agent.lost == 0


def test_many_requests_at_once_are_scored_as_the_scorer_scores_each() -> None:
    crowd, _ = quick_crowd(rounds=30)
    agent, rng = crowd.agent, np.random.default_rng(1)
    interests, contents = rng.uniform(-1, 1, (4, TOPICS)), content_ids(rng.integers(0, TOPICS, (4, 10)))
    scorer = Scorer(agent.snapshot(), agent.space)
    for at, many in enumerate(score_many(agent, interests, contents)):
        state = State(context=dict(zip(INTERESTS, interests[at].tolist(), strict=True)))
        one = scorer.score(state, agent.space.index(contents[at].tolist()))
        np.testing.assert_allclose(many.advantage, one.advantage, atol=1e-4)
        np.testing.assert_allclose(many.choice, one.choice, atol=1e-4)
        np.testing.assert_allclose([many.u, many.n, many.a_empty], [one.u, one.n, one.a_empty], atol=1e-4)


def test_the_agent_learns_to_spare_a_budget_it_never_sees() -> None:
    crowd, _ = quick_crowd(rounds=800)
    watched = returns(best_slates(crowd.agent, "a"), 300, seed=1_000)
    assert watched.mean() > 174  # 180.5 when written; random 160.5, myopic 168.6
