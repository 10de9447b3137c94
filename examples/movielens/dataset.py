"""MovieLens-100K (GroupLens), read from the ``recbole`` wheel, which ships it as example data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.wheels import CACHE, DataUnavailable, DataWheel

__all__ = ["DataUnavailable", "Movie", "MovieLens", "Ratings", "load"]

_INSIDE = "recbole/dataset_example/ml-100k/"
_RATINGS, _CONTENTS = f"{_INSIDE}ml-100k.inter", f"{_INSIDE}ml-100k.item"
_WHEEL = DataWheel(
    name="MovieLens-100K",
    requirement="recbole==1.2.1",
    file_name="recbole-1.2.1-*.whl",
    sha256={
        _RATINGS: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
        _CONTENTS: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    },
    otherwise="`make quickstart` shows the same loop on a generated world and downloads nothing. ",
)


@dataclass(frozen=True, slots=True)
class Movie:
    """One content. ``year`` is empty for the one movie that has none."""

    content_id: int
    title: str
    year: str
    genres: tuple[str, ...]

    @property
    def description(self) -> str:
        """Year and genres as one line of text, what Doc2Vec reads beside the title."""
        return " ".join((self.year, *self.genres)).strip()


@dataclass(frozen=True, slots=True)
class Ratings:
    """100,000 ratings as columns, in time order; ratings of the same second keep the order of the file."""

    user_ids: NDArray[np.int64]
    content_ids: NDArray[np.int64]
    ratings: NDArray[np.float32]
    timestamps_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True, slots=True)
class MovieLens:
    """The whole data set."""

    contents: tuple[Movie, ...]
    ratings: Ratings


def load(cache: Path = CACHE) -> MovieLens:
    """Return the data set, downloading its wheel into ``cache`` when it is not there yet.

    Raises
    ------
    DataUnavailable
        When the wheel cannot be had, or does not hold the pinned files; the message says what to do instead.
    """
    members = _WHEEL.read(cache)
    return MovieLens(_contents(members[_CONTENTS].decode()), _ratings(members[_RATINGS].decode()))


def _contents(text: str) -> tuple[Movie, ...]:
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple(
        Movie(int(content_id), title, year if year.isdigit() else "", tuple(genres.split()))
        for content_id, title, year, genres in rows
    )


def _ratings(text: str) -> Ratings:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    timestamps_s = np.array([int(row[3]) for row in rows], dtype=np.int64)
    order = np.argsort(timestamps_s, kind="stable")
    return Ratings(
        user_ids=np.array([int(row[0]) for row in rows], dtype=np.int64)[order],
        content_ids=np.array([int(row[1]) for row in rows], dtype=np.int64)[order],
        ratings=np.array([float(row[2]) for row in rows], dtype=np.float32)[order],
        timestamps_s=timestamps_s[order],
    )
