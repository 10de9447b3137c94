"""A stream in which a tenth of the contents are new: they appear only in its last fifth, and are measured alone.

The protocol, on top of ``examples/movielens/protocol.py``:

1. A content is *new* when its id ends in a given digit (168 of 1,682 with 3), whatever it is.
2. The stream begins its last fifth with the likes that are the last fifth of all likes, in time order. Before that
   nobody likes a new content and none is a candidate: what was rated of them earlier is left out. Whoever rated one
   earlier is never offered it later, for he knows it.
3. Each user's likes are cut into groups of three twice: those of other contents, over the whole stream, as always; and
   those of new contents, over its last fifth. A group of new contents opens a request with other new contents beside
   it (never rated by this user, drawn as the negatives of the protocol are) up to 18: a slate of new contents only.
4. The ordinary requests go on between them, so every ranker learns what it can, also of new contents once they are
   clicked or liked. Clicks per request are counted over the requests for new contents alone.

All contents and their texts are in the catalogue from the beginning, as those of a film are that is announced before
it can be seen; their ids have taught nothing.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from examples.movielens.dataset import Ratings
from examples.movielens.protocol import FIFTHS, LIKED, Negatives, Request, Turn, requests_of, turns

DIGIT = 3
_DISLIKED = 0.0


@dataclass(frozen=True, slots=True)
class NewContents:
    """The stream; ``measured`` says of each request whether it is one for new contents."""

    stream: list[Turn]
    measured: NDArray[np.bool_]
    begins_s: int


def is_new(content_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which contents appear only in the last fifth."""
    return np.asarray(content_ids % 10 == DIGIT)


def new_contents(ratings: Ratings, negatives: Negatives = "popularity", seed: int = 0) -> NewContents:
    """Return the stream of the protocol above; the same seed draws the same candidates."""
    begins_s = _begin_of_last_fifth(ratings)
    new = is_new(ratings.content_ids)
    early = ratings.timestamps_s < begins_s
    # Early ratings of new contents stay as ratings that nobody liked: they open nothing, and they keep a content that a
    # user knows from being offered to him as a negative.
    quiet = replace(ratings, ratings=np.where(new & early, np.float32(_DISLIKED), ratings.ratings))
    strands = [turns(_rows(quiet, keep), negatives, seed) for keep in (~new, new)]
    stream = list(_numbered(strands))
    measured = [bool(is_new(np.array(request.group)).all()) for request in requests_of(stream)]
    return NewContents(stream, np.array(measured, np.bool_), begins_s)


def _begin_of_last_fifth(ratings: Ratings) -> int:
    liked = ratings.timestamps_s[ratings.ratings >= LIKED]
    return int(liked[len(liked) * (FIFTHS - 1) // FIFTHS])


def _rows(ratings: Ratings, keep: NDArray[np.bool_]) -> Ratings:
    return Ratings(ratings.user_ids[keep], ratings.content_ids[keep], ratings.ratings[keep], ratings.timestamps_s[keep])


def _numbered(strands: list[list[Turn]]) -> Iterator[Turn]:
    """Merge streams in time order, with requests numbered in the order in which they come now."""
    numbers: dict[tuple[int, int], int] = {}
    tagged = [[(turn.timestamp_s, strand, turn) for turn in stream] for strand, stream in enumerate(strands)]
    for _, strand, turn in heapq.merge(*tagged, key=lambda entry: entry[:2]):
        number = numbers.setdefault((strand, turn.request_number), len(numbers))
        opens = None if turn.opens is None else Request(number, turn.user_id, turn.opens.group, turn.opens.candidates)
        yield replace(turn, request_number=number, opens=opens)
