"""Clicks per request, for moard and for the rankers that are compared with it, on the same requests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from examples.movielens import protocol
from examples.movielens.protocol import FIFTHS, Turn


class Scoreboard:
    """What each request of a stream earned; moard's part fills as answers come in."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._baselines = {
            "popularity": protocol.popularity_clicks(turns),
            "random": protocol.random_clicks(turns),
        }
        self._moard: NDArray[np.float64] = np.full(len(self._baselines["random"]), np.nan)
        self.answered = 0

    @property
    def requests(self) -> int:
        """How many requests the stream has."""
        return len(self._moard)

    def record(self, number: int, clicks: int) -> None:
        """Note what the answer to a request earned."""
        self._moard[number] = clicks
        self.answered += 1

    def by_fifths(self) -> dict[str, list[float]]:
        """Return each ranker's clicks per answered request; NaN for a fifth in which nothing is answered yet."""
        clicks = {"moard": self._moard, **self._baselines}
        parts = np.array_split(np.arange(self.requests), FIFTHS)
        answered = [part[~np.isnan(self._moard[part])] for part in parts]
        return {
            ranker: [float(values[part].mean()) if len(part) else float("nan") for part in answered]
            for ranker, values in clicks.items()
        }

    def last_fifth(self) -> dict[str, float]:
        """Return each ranker's clicks per request in the last fifth, which is what a run is judged by."""
        return {ranker: fifths[-1] for ranker, fifths in self.by_fifths().items()}
