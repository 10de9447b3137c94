"""Rankers of other designs on the same stream: what one must be able to do, and the loop that plays it.

They are told what moard is told, at the same moments: what was shown and clicked, and what was liked beside it. They
take the best slate they know (no exploration): for the clicks that count here that is their best side.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from examples.movielens.protocol import SLATE, Turn


class Rival(Protocol):
    """A ranker that learns while it serves."""

    def scores(self, user_id: int, candidates: Sequence[int], now_s: int) -> NDArray[np.float32]:
        """Return what each candidate is ranked by."""

    def shown(self, user_id: int, slate: Sequence[int], clicked: Collection[int], now_s: int) -> None:
        """Learn from a slate and what was clicked of it."""

    def liked(self, user_id: int, content_id: int, now_s: int) -> None:
        """Learn from what was liked outside of any slate."""


def play(rival: Rival, stream: Iterable[Turn]) -> NDArray[np.float64]:
    """Play the stream to a ranker; return the clicks of each request."""
    clicks: list[int] = []
    clicked: dict[int, list[int]] = {}
    for turn in stream:
        if turn.opens is not None:
            scores = rival.scores(turn.user_id, turn.opens.candidates, turn.timestamp_s)
            best = np.argsort(-scores, kind="stable")[:SLATE]  # a tie goes to the first, which is a random one
            slate = tuple(turn.opens.candidates[at] for at in best)
            clicked[turn.request_number] = turn.opens.clicks(slate)
            clicks.append(len(clicked[turn.request_number]))
            rival.shown(turn.user_id, slate, clicked[turn.request_number], turn.timestamp_s)
        if turn.content_id not in clicked[turn.request_number]:
            rival.liked(turn.user_id, turn.content_id, turn.timestamp_s)
    return np.array(clicks, np.float64)
