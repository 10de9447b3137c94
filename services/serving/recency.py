"""When contents were published or came in, by index of the action space, and which are the newest."""

import numpy as np
from jaxtyping import Bool, Float64, Int32

from libs.rl.action_space import ActionSpace

_UNKNOWN = -1


class Recency:
    """Times of the contents that the catalogue has. Belongs to the event loop, as the space it follows.

    Parameters
    ----------
    kept
        How many of the newest contents are kept in order.
    """

    def __init__(self, space: ActionSpace, kept: int) -> None:
        self._space = space
        self._kept = kept
        self._published_ms = np.zeros(0, np.int64)
        self._came_ms = np.zeros(0, np.int64)
        self._newest = np.zeros(0, np.int32)
        self._sorted_at = -1

    def put(self, index: int, published_ms: int | None, came_ms: int) -> None:
        """Set the times of a content that the catalogue has: its own, and when it came or last changed."""
        if index >= len(self._came_ms):
            self._reserve()
        self._published_ms[index] = _UNKNOWN if published_ms is None else published_ms
        self._came_ms[index] = came_ms

    @property
    def listed(self) -> Bool[np.ndarray, "M"]:
        """Contents that the catalogue has, hidden ones too; others were only learned about, or asked for."""
        self._reserve()
        listed: np.ndarray = self._came_ms[: len(self._space)] != _UNKNOWN
        return listed

    def age_s(self, indices: Int32[np.ndarray, "K"], now_ms: int) -> Float64[np.ndarray, "K"]:
        """Return the seconds since each content was published, infinite where that is not known."""
        self._reserve()
        published = self._published_ms[indices]
        ages: np.ndarray = np.where(published == _UNKNOWN, np.inf, (now_ms - published) / 1_000)
        return ages

    def newest(self) -> Int32[np.ndarray, "C"]:
        """Return the newest contents that are not hidden, newest first: by publication, else by when they came.

        Sorted again only after a change of the catalogue: O(contents), 1 ms for 50,000.
        """
        if self._sorted_at != self._space.changes:
            self._sorted_at = self._space.changes
            self._newest = self._sort()
        return self._newest

    def _sort(self) -> np.ndarray:
        shown = np.flatnonzero(self.listed & ~self._space.hidden)
        times = np.where(self._published_ms[shown] == _UNKNOWN, self._came_ms[shown], self._published_ms[shown])
        if len(shown) > self._kept:
            best = np.argpartition(-times, self._kept)[: self._kept]
            shown, times = shown[best], times[best]
        newest: np.ndarray = shown[np.lexsort((-shown, -times))].astype(np.int32)
        return newest

    def _reserve(self) -> None:
        """Make room for every index of the space."""
        size = len(self._came_ms)
        if size < len(self._space):
            more = np.full(max(len(self._space), 2 * size) - size, _UNKNOWN, np.int64)
            self._published_ms = np.concatenate([self._published_ms, more])
            self._came_ms = np.concatenate([self._came_ms, more])
