import numpy as np

from benchmarks.movielens import Play, text_vector
from examples.movielens.dataset import Movie, Ratings
from examples.movielens.protocol import requests_of, turns
from libs.rl.agent import Agent
from libs.rl.settings import AgentSettings

CONTENTS = 40


def ratings(users: int = 12, each: int = 12, seed: int = 0) -> Ratings:
    rng = np.random.default_rng(seed)
    contents = np.concatenate([rng.permutation(CONTENTS)[:each] + 1 for _ in range(users)])
    return Ratings(
        user_ids=np.repeat(np.arange(1, users + 1), each),
        content_ids=contents,
        ratings=np.full(users * each, 5, np.float32),
        timestamps_s=np.arange(users * each) * 10,
    )


def test_every_liked_content_becomes_a_click_or_an_organic_row() -> None:
    stream = turns(ratings(), "popularity", seed=0)
    agent = Agent(AgentSettings(capacity=1_000, learning_starts=10, batch_size=16), 64)
    play = Play(agent)
    play.put_contents([Movie(at, f"title {at}", "1990", ("drama",)) for at in range(1, CONTENTS + 1)])
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
