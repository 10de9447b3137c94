"""The replay protocol, the same for every ranker (rl.md §9), and the rankers that need no learning.

A user's liked contents in time order are cut into groups of three. When the first of a group is rated, a request is
made: its candidates are the group and contents that this user never rates. What the slate holds of the group is clicked
at once; what it misses is liked organically when its own rating comes. Nothing is offered twice to a user, so the
requests do not depend on the ranker and every ranker can be compared on the same ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from examples.movielens.dataset import Ratings

LIKED = 4.0
GROUP = 3
CANDIDATES = 18
SLATE = 6
FIFTHS = 5

Negatives: TypeAlias = Literal["popularity", "uniform"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a slate. ``number`` counts from 0 in stream order; ``group`` is what the user will like."""

    number: int
    user_id: int
    group: tuple[int, ...]
    candidates: tuple[int, ...]

    def clicks(self, slate: Sequence[int]) -> list[int]:
        """Return the contents of a slate that the user clicks, in slate order."""
        return [content_id for content_id in slate if content_id in self.group]

    @property
    def random_clicks(self) -> float:
        """Clicks that a random slate gets on average."""
        return min(SLATE, len(self.candidates)) * len(self.group) / len(self.candidates)


@dataclass(frozen=True, slots=True)
class Turn:
    """One liked rating in the order of the stream.

    When ``opens`` is set, that request comes first and its clicks are posted at once. Then ``content_id`` is posted as
    an organic like, unless the request that offered it (``request_number``) already got it clicked.
    """

    user_id: int
    content_id: int
    timestamp_s: int
    request_number: int
    opens: Request | None


def turns(ratings: Ratings, negatives: Negatives = "popularity", seed: int = 0) -> list[Turn]:
    """Return the whole stream: 55,375 turns that open 18,783 requests in MovieLens-100K.

    The same seed draws the same negatives and the same order of candidates.
    """
    liked = np.flatnonzero(ratings.ratings >= LIKED)
    groups = _groups(ratings, liked)
    draw = _Negatives(ratings, negatives, seed)
    stream: list[Turn] = []
    requests = 0
    number_of: dict[int, int] = {}
    for row in liked.tolist():
        user_id, content_id = int(ratings.user_ids[row]), int(ratings.content_ids[row])
        first, group = groups[row]
        opens = None
        if first == row:
            opens = Request(requests, user_id, group, draw.candidates(user_id, group))
            number_of[row] = requests
            requests += 1
        stream.append(Turn(user_id, content_id, int(ratings.timestamps_s[row]), number_of[first], opens))
    return stream


def requests_of(stream: Sequence[Turn]) -> list[Request]:
    """Return the requests of a stream, in order."""
    return [turn.opens for turn in stream if turn.opens is not None]


def _groups(ratings: Ratings, liked: NDArray[np.int64]) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Map each liked row to the first row of its group and the group's contents."""
    by_user: dict[int, list[int]] = {}
    for row in liked.tolist():
        by_user.setdefault(int(ratings.user_ids[row]), []).append(row)
    groups = {}
    for rows in by_user.values():
        for start in range(0, len(rows), GROUP):
            members = rows[start : start + GROUP]
            contents = tuple(ratings.content_ids[members].tolist())
            groups.update(dict.fromkeys(members, (members[0], contents)))
    return groups


class _Negatives:
    """Draws, without replacement, contents that a user never rates."""

    def __init__(self, ratings: Ratings, negatives: Negatives, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._contents, counts = np.unique(ratings.content_ids, return_counts=True)
        self._log_weight = np.log(counts) if negatives == "popularity" else np.zeros(len(counts))
        self._rated: dict[int, NDArray[np.int64]] = {
            int(user_id): np.searchsorted(self._contents, ratings.content_ids[ratings.user_ids == user_id])
            for user_id in np.unique(ratings.user_ids)
        }

    def candidates(self, user_id: int, group: tuple[int, ...]) -> tuple[int, ...]:
        # Gumbel top-k: adding Gumbel noise to log-weights and taking the largest draws without replacement.
        keys = self._log_weight + self._rng.gumbel(size=len(self._log_weight))
        keys[self._rated[user_id]] = -np.inf
        drawn = np.argsort(-keys)[: CANDIDATES - len(group)]
        together = np.concatenate([np.array(group, dtype=np.int64), self._contents[drawn[np.isfinite(keys[drawn])]]])
        return tuple(self._rng.permutation(together).tolist())


def random_clicks(stream: Sequence[Turn]) -> NDArray[np.float64]:
    """Return the expected clicks of a random slate, for each request."""
    return np.array([request.random_clicks for request in requests_of(stream)])


def popularity_clicks(stream: Sequence[Turn]) -> NDArray[np.float64]:
    """Return the clicks of the slate with the most likes so far in the stream, for each request.

    A tie goes to the candidate that comes first in the request, which is a random one: candidates are shuffled.
    """
    likes: Counter[int] = Counter()
    clicks = []
    for turn in stream:
        if turn.opens is not None:
            slate = sorted(turn.opens.candidates, key=lambda content_id: -likes[content_id])[:SLATE]
            clicks.append(len(turn.opens.clicks(slate)))
        likes[turn.content_id] += 1
    return np.array(clicks, dtype=np.float64)


def oracle_clicks(stream: Sequence[Turn]) -> NDArray[np.float64]:
    """Return the clicks of the best slate there is, for each request."""
    return np.array([min(SLATE, len(request.group)) for request in requests_of(stream)], dtype=np.float64)


def baselines(stream: Sequence[Turn]) -> dict[str, NDArray[np.float64]]:
    """Return the clicks of the rankers that moard is shown beside."""
    return {"popularity": popularity_clicks(stream), "random": random_clicks(stream)}


def by_fifths(clicks: NDArray[np.float64]) -> list[float]:
    """Return clicks per request in each fifth of the stream; NaN for a fifth without requests."""
    return [float(part.mean()) if len(part) else float("nan") for part in np.array_split(clicks, FIFTHS)]
