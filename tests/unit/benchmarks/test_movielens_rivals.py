"""Rankers of other designs learn what there is to learn: two camps of users with two kinds of contents."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.classic import Classic, DuelingMlp
from benchmarks.factorisation import Factorisation, FactorisationSettings
from benchmarks.movielens_play import text_vectors
from benchmarks.movielens_rivals import Rival, play
from examples.movielens.dataset import Movie, Ratings
from examples.movielens.protocol import by_fifths, random_clicks, requests_of, turns


class Recorder:
    """A ranker that likes small ids and notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def scores(self, user_id: int, candidates: Sequence[int], now_s: int) -> NDArray[np.float32]:
        return -np.array(candidates, np.float32)

    def shown(self, user_id: int, slate: Sequence[int], clicked: Collection[int], now_s: int) -> None:
        self.heard.append(("shown", user_id, tuple(slate), tuple(clicked), now_s))

    def liked(self, user_id: int, content_id: int, now_s: int) -> None:
        self.heard.append(("liked", user_id, content_id, now_s))


def rivals(contents: list[Movie], ratings: Ratings) -> dict[str, Rival]:
    users, ids = int(ratings.user_ids.max()) + 1, len(contents) + 1
    settings = FactorisationSettings(factors=4, regularisation=1.0, refit_likes=20)
    return {"classic": Classic(text_vectors(contents)), "factorisation": Factorisation(users, ids, settings)}


def test_a_ranker_is_told_each_like_once_as_a_click_or_by_itself(ratings: Ratings) -> None:
    stream, recorder = turns(ratings), Recorder()
    clicks = play(recorder, stream)

    shown = [event for event in recorder.heard if event[0] == "shown"]
    likes = [(event[1], event[2]) for event in recorder.heard if event[0] == "liked"]
    for request, (_, user_id, slate, clicked, _) in zip(requests_of(stream), shown, strict=True):
        assert (user_id, list(slate)) == (request.user_id, sorted(request.candidates)[:6])
        assert list(clicked) == request.clicks(slate)
    assert clicks.tolist() == [len(event[3]) for event in shown]
    told = [(event[1], content_id) for event in shown for content_id in event[3]] + likes
    assert sorted(told) == sorted((turn.user_id, turn.content_id) for turn in stream)


@pytest.mark.parametrize("name", ["classic", "factorisation"])
def test_rivals_learn_who_likes_what(name: str, camps: tuple[list[Movie], Ratings]) -> None:
    contents, ratings = camps
    stream = turns(ratings, "uniform")
    last = by_fifths(play(rivals(contents, ratings)[name], stream))[-1]
    assert last > by_fifths(random_clicks(stream))[-1] + 0.5


def test_a_step_of_the_classic_design_is_the_one_torch_would_take() -> None:
    ours = DuelingMlp(inputs=6, seed=0)
    rng = np.random.default_rng(1)
    rows, rewards = rng.normal(size=(5, 6)).astype(np.float32), (1.0, 0.0, 1.0, 1.0, 0.0)
    theirs = {name: torch.tensor(weight, requires_grad=True) for name, weight in ours.weights.items()}
    advantage = torch.tensor(ours.advantage, requires_grad=True)
    optimiser = torch.optim.Adam([*theirs.values(), advantage], lr=1e-3)

    def q(pairs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(pairs @ theirs["first"].T + theirs["first_bias"])
        hidden = torch.relu(hidden @ theirs["second"].T + theirs["second_bias"])
        a = hidden @ advantage
        return hidden @ theirs["value"] + theirs["value_bias"] + a - a.mean()

    for row, reward in zip(rows, rewards, strict=True):
        ours.step(row, reward)
        optimiser.zero_grad()
        loss = (q(torch.from_numpy(row[None])) - reward).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for name, weight in theirs.items():
        np.testing.assert_allclose(ours.weights[name], weight.detach(), atol=1e-5)
    np.testing.assert_array_equal(ours.advantage, advantage.detach())  # over one row A − mean A is nothing
    np.testing.assert_allclose(ours.q(rows), q(torch.from_numpy(rows)).detach(), atol=1e-5)


def test_a_last_like_counts_before_the_next_factorisation(camps: tuple[list[Movie], Ratings]) -> None:
    contents, ratings = camps
    ranker = Factorisation(99, len(contents) + 1, FactorisationSettings(factors=4, regularisation=1.0, refit_likes=20))
    play(ranker, turns(ratings))
    refits = ranker.refits
    ranker.liked(98, 2, now_s=0)
    comedies, dramas = ranker.scores(98, (4, 6, 8), 0), ranker.scores(98, (3, 5, 7), 0)
    assert ranker.refits == refits > 20
    assert comedies.min() > dramas.max()
