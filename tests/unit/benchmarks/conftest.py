"""A world of few users and contents, and the real data set where it can be had."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from examples.movielens import dataset
from examples.movielens.dataset import Movie, Ratings

CONTENTS = 40


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Run torch as the benches do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def movielens() -> dataset.MovieLens:
    try:
        return dataset.load()
    except dataset.DataUnavailable as error:
        pytest.skip(f"MovieLens-100K is not to be had here: {error}")


@pytest.fixture
def ratings() -> Ratings:
    """Twelve users who like twelve contents each, ten seconds apart."""
    users, each, rng = 12, 12, np.random.default_rng(0)
    contents = np.concatenate([rng.permutation(CONTENTS)[:each] + 1 for _ in range(users)])
    return Ratings(
        user_ids=np.repeat(np.arange(1, users + 1), each),
        content_ids=contents,
        ratings=np.full(users * each, 5, np.float32),
        timestamps_s=np.arange(users * each) * 10,
    )


@pytest.fixture
def camps() -> tuple[list[Movie], Ratings]:
    """Sixty users in turn, half of whom like dramas (odd ids) alone and half comedies (even ids) alone."""
    users, each, rng = 60, 12, np.random.default_rng(0)
    genres = ("comedy", "drama")
    contents = [Movie(at, f"title {at}", "1990", (genres[at % 2],)) for at in range(1, CONTENTS + 1)]
    own = [[movie.content_id for movie in contents if movie.content_id % 2 == user % 2] for user in range(users)]
    liked = np.array([rng.permutation(own[user])[:each] for user in range(users)])
    return contents, Ratings(
        user_ids=np.tile(np.arange(1, users + 1), each),
        content_ids=liked.T.ravel(),  # everybody's first like, then everybody's second …
        ratings=np.full(users * each, 5, np.float32),
        timestamps_s=np.arange(users * each) * 10,
    )
