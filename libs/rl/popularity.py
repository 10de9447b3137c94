"""How often each content was consumed, and the zero point of its logarithm, kept as rows come in."""

import math

import numpy as np


class Popularity:
    """Consumptions by content index, with ``centre`` as ``features.popularity_centre`` defines it, in O(1)."""

    def __init__(self) -> None:
        self.consumptions = np.zeros(1024, np.int64)
        self.total = 0
        self.weighted = 0.0

    @property
    def centre(self) -> float:
        """Log-count of the content that a typical consumption is of."""
        return self.weighted / self.total if self.total else 0.0

    def grow(self, size: int) -> None:
        """Make room for every index below ``size``."""
        if size > len(self.consumptions):
            room = np.zeros(max(size, 2 * len(self.consumptions)) - len(self.consumptions), np.int64)
            self.consumptions = np.concatenate([self.consumptions, room])

    def add(self, content: int, change: int = 1) -> None:
        """Count one consumption, or take one back."""
        old = int(self.consumptions[content])
        new = max(0, old + change)
        self.consumptions[content] = new
        self.total += new - old
        self.weighted += new * math.log1p(new) - old * math.log1p(old)
