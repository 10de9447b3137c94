"""Rankings of one turn of the event loop are made together, and nobody suffers from the others."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from libs.rl.action_space import ActionSpace
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration, log_probabilities, slate_scores
from libs.rl.transitions import State
from services.serving import turns
from services.serving.ranking import Candidates, Cold, Learned, Model, Ranking, Scored, Wish
from services.serving.turns import Turns
from tests.snapshots import random_snapshot

IDS = list(range(1, 21))
EXPLORATION = Exploration(0.5, 0.1)


class Watched(Learned):
    """A learned model that notes how many wishes it got at a time."""

    seen: ClassVar[list[int]] = []

    def scores_all(self, wishes: Sequence[Wish]) -> list[Scored]:
        self.seen.append(len(wishes))
        return super().scores_all(wishes)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(Watched, "seen", [])
    space, rng = ActionSpace(8), np.random.default_rng(1)
    for content_id in IDS:
        space.put(content_id, rng.normal(size=8))
    return Watched(Scorer(random_snapshot(IDS, 8), space), 7, "value", "multi")


def wish(at: int, number: int = 5, size: int = 3) -> Wish:
    chosen = np.random.default_rng(at).choice(IDS, number, replace=False)
    history = tuple(np.random.default_rng(100 + at).choice(IDS, at % 4).tolist())
    state = State(history, tuple(60.0 * place for place in range(len(history))))
    return Wish(Candidates(chosen, chosen.astype(np.int32)), state, size)


async def rank_all(turn: Turns, *asked: tuple[Model, Wish]) -> list[Ranking | BaseException]:
    return await asyncio.gather(*(turn.rank(model, each) for model, each in asked), return_exceptions=True)


async def test_requests_of_one_turn_are_scored_at_once_and_each_gets_its_own(model: Watched) -> None:
    wishes = [wish(at, number, size) for at, (number, size) in enumerate([(5, 3), (20, 6), (1, 3), (5, 3), (8, 50)])]
    found = await rank_all(Turns(EXPLORATION, np.random.default_rng(0)), *((model, each) for each in wishes))
    assert model.seen == [5]
    for each, ranking in zip(wishes, found, strict=True):
        assert isinstance(ranking, Ranking)
        assert ranking.candidates is each.candidates
        alone = model.scorer.score(each.state, each.candidates.indices)
        assert ranking.slate.scores == pytest.approx(slate_scores(alone, "value", "multi", each.size), abs=1e-5)
        positions = ranking.slate.positions
        assert len(set(positions.tolist())) == len(positions) == min(each.size, len(each.candidates))
        again = log_probabilities(ranking.slate.scores, positions, EXPLORATION)
        np.testing.assert_allclose(ranking.slate.log_propensities, again, atol=1e-12)


async def test_whoever_asks_later_is_not_waited_for(model: Watched) -> None:
    turn = Turns(EXPLORATION, np.random.default_rng(0))
    await turn.rank(model, wish(0))
    await turn.rank(model, wish(1))
    assert model.seen == [1, 1]


async def test_models_are_not_mixed(model: Watched) -> None:
    ids = np.array(IDS[:3])
    cold = Cold(np.array([5, 50, 500]), np.full(3, np.inf))
    nobody = Wish(Candidates(ids, ids.astype(np.int32)), State(), 3)
    turn = Turns(Exploration(greedy=True), np.random.default_rng(0))
    found = await rank_all(turn, (model, wish(0)), (cold, nobody), (model, wish(1)))
    versions = [ranking.version for ranking in found if isinstance(ranking, Ranking)]
    assert versions == [7, 0, 7]
    assert model.seen == [2]
    assert isinstance(found[1], Ranking)
    assert found[1].content_ids.tolist() == [3, 2, 1]


async def test_a_score_that_is_not_finite_fails_its_own_request_alone(model: Watched) -> None:
    vectors = model.scorer._half
    vectors[IDS[0]] = np.nan
    spoiled = Candidates(np.array(IDS[:2]), np.array(IDS[:2], np.int32))
    sound = Candidates(np.array(IDS[2:5]), np.array(IDS[2:5], np.int32))
    turn = Turns(EXPLORATION, np.random.default_rng(0))
    found = await rank_all(turn, *((model, Wish(each, State(), 2)) for each in (sound, spoiled, sound)))
    assert [type(each) for each in found] == [Ranking, ValueError, Ranking]


async def test_who_left_before_the_turn_is_not_missed(model: Watched) -> None:
    turn = Turns(EXPLORATION, np.random.default_rng(0))
    leaving = asyncio.ensure_future(turn.rank(model, wish(0)))
    staying = asyncio.ensure_future(turn.rank(model, wish(1)))
    await asyncio.sleep(0)
    leaving.cancel()
    assert isinstance(await staying, Ranking)
    assert leaving.cancelled()


async def test_a_long_turn_is_cut_so_that_the_loop_gets_a_breath(
    model: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_MOST_PAIRS", 12)
    turn = Turns(EXPLORATION, np.random.default_rng(0))
    found = await rank_all(turn, *((model, wish(at, number)) for at, number in enumerate([5, 5, 5, 20, 1])))
    assert all(isinstance(ranking, Ranking) for ranking in found)
    assert model.seen == [2, 1, 1, 1]
