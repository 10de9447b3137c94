"""Clicks per request, for moard and for the rankers that it is compared with, on the same requests."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

FIFTHS = ("1st fifth", "2nd", "3rd", "4th", "last")
_NAMES = {"moard": "moard", "popularity": "popularity so far", "random": "random"}


class Scoreboard:
    """What each request of a stream earned; moard's part fills as answers come in.

    Parameters
    ----------
    baselines
        Clicks of each other ranker, one number for each request in stream order.
    """

    def __init__(self, baselines: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> None:
        self._baselines = {name: np.asarray(clicks, dtype=np.float64) for name, clicks in baselines.items()}
        (self.requests,) = {len(clicks) for clicks in self._baselines.values()}
        self._moard: NDArray[np.float64] = np.full(self.requests, np.nan)
        self.answered = 0

    def record(self, number: int, clicks: int) -> None:
        """Note what the answer to a request earned."""
        self._moard[number] = clicks
        self.answered += 1

    def by_fifths(self) -> dict[str, list[float]]:
        """Return each ranker's clicks per answered request; NaN for a fifth in which nothing is answered yet."""
        parts = np.array_split(np.arange(self.requests), len(FIFTHS))
        answered = [part[~np.isnan(self._moard[part])] for part in parts]
        return {
            ranker: [float(clicks[part].mean()) if len(part) else math.nan for part in answered]
            for ranker, clicks in {"moard": self._moard, **self._baselines}.items()
        }

    def last_fifth(self) -> dict[str, float]:
        """Return each ranker's clicks per request in the last fifth, which is what a run is judged by."""
        return {ranker: fifths[-1] for ranker, fifths in self.by_fifths().items()}

    def table(self) -> Table:
        """Return clicks per request by fifths, for a terminal."""
        table = Table(title="clicks per request, the same requests for all", title_justify="left", box=None)
        table.add_column("", min_width=20)
        for fifth in FIFTHS:
            table.add_column(fifth, justify="right")
        for ranker, fifths in self.by_fifths().items():
            cells = ["–" if math.isnan(clicks) else f"{clicks:.2f}" for clicks in fifths]
            table.add_row(_NAMES.get(ranker, ranker), *cells, style="bold green" if ranker == "moard" else "")
        return table
