"""The protocol through one agent, and what is recorded of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import movielens_round
from benchmarks.harness import Bench
from benchmarks.movielens_play import SETTINGS, VECTOR_SIZE, Play, text_vector, text_vectors
from benchmarks.movielens_round import RIVALS, TWINS, last_fifth, run_protocol, users_of
from benchmarks.paired import paired_interval
from examples.movielens.dataset import Movie, MovieLens, Ratings
from examples.movielens.protocol import by_fifths, popularity_clicks, requests_of, turns
from libs.rl.agent import Agent
from libs.rl.settings import AgentSettings
from tests.unit.benchmarks.conftest import CONTENTS


def test_every_liked_content_becomes_a_click_or_an_organic_row(ratings: Ratings) -> None:
    stream = turns(ratings, "popularity", seed=0)
    agent = Agent(AgentSettings(capacity=1_000, learning_starts=10, batch_size=16), VECTOR_SIZE)
    play = Play(agent)
    play.put_contents(text_vectors([Movie(at, f"title {at}", "1990", ("drama",)) for at in range(1, CONTENTS + 1)]))
    clicks = play.through(stream)
    assert len(clicks) == len(requests_of(stream)) == 48
    organic = agent.inserted - len(clicks)
    assert clicks.sum() + organic == len(stream)
    assert agent.updates > 0
    assert agent.samples <= 12 * agent.inserted
    assert agent.lost == 0


def test_words_have_directions_that_do_not_change() -> None:
    np.testing.assert_array_equal(text_vector(["a", "b"]), text_vector(["b", "a"]))
    assert np.abs(text_vector(["a"]) - text_vector(["b"])).max() > 0.1


def test_the_last_fifth_is_the_one_whose_mean_is_shown(ratings: Ratings) -> None:
    stream = turns(ratings)
    clicks = popularity_clicks(stream)
    assert clicks[last_fifth(stream)].mean() == by_fifths(clicks)[-1]
    assert users_of(stream).tolist() == [request.user_id for request in requests_of(stream)]


def test_moard_is_recorded_against_every_rival(
    camps: tuple[list[Movie], Ratings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens_round, "SEEDS", 2)
    bench = Bench("movielens", results=tmp_path, console=Console(file=io.StringIO()))
    contents, ratings = camps
    run_protocol(bench, MovieLens(tuple(contents), ratings), "popularity")

    found = {(figure.variant, figure.metric, figure.seed): figure.value for figure in bench.figures}
    for rival in RIVALS:
        of_seeds = [found["moard", f"clicks per request over {rival}, last fifth", seed] for seed in (0, 1)]
        pooled = [found["moard, 2 seeds", f"clicks per request over {rival}, last fifth{bound}", 0] for bound in BOUNDS]
        assert pooled[0] == pytest.approx(np.mean(of_seeds))  # as many requests in both
        assert pooled[1] <= pooled[0] <= pooled[2]
    for twin in TWINS:  # these play the first seed alone
        metric = f"clicks per request over {twin}, last fifth"
        assert ("moard", metric, 0) in found
        assert ("moard", metric, 1) not in found
    assert found["oracle", "clicks per request, fifth 5", 1] == 3.0


BOUNDS = ("", ", low 95 %", ", high 95 %")


def test_moard_is_ahead_of_popularity_before_a_fifth_of_the_stream_has_passed(movielens: MovieLens) -> None:
    stream = turns(movielens.ratings, "popularity", seed=0)[:9_000]
    play = Play(Agent(SETTINGS, VECTOR_SIZE, seed=0), seed=0)
    play.put_contents(text_vectors(movielens.contents))
    ours, theirs, user_ids = play.through(stream), popularity_clicks(stream), users_of(stream)
    second_half = np.arange(len(ours)) >= len(ours) // 2
    lead = paired_interval(ours[second_half], theirs[second_half], user_ids[second_half])
    assert lead.low > 0.1
