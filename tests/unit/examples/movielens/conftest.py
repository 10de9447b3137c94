"""The real data set, once for all tests that need it."""

import pytest

from examples.movielens import dataset


@pytest.fixture(scope="session")
def movielens() -> dataset.MovieLens:
    try:
        return dataset.load()
    except dataset.DataUnavailable as error:
        pytest.skip(f"MovieLens-100K is not to be had here: {error}")
