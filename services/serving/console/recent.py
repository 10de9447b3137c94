"""What the console remembers: an hour of points for its charts, ten minutes of freshness."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

_SLOT_S: Final = 5
_KEPT: Final = 720  # an hour
_FRESH_OVER_S: Final = 600.0

Point = Mapping[str, float | None]


class History:
    """The last points, one for each five seconds; a point of the same five seconds replaces the one before it."""

    def __init__(self, slot_s: int = _SLOT_S, kept: int = _KEPT) -> None:
        self._slot_s = slot_s
        self._points: deque[tuple[int, Point]] = deque(maxlen=kept)

    def add(self, at_ms: int, point: Point) -> None:
        """Keep a point."""
        if self._points and self._slot(self._points[-1][0]) == self._slot(at_ms):
            self._points.pop()
        self._points.append((at_ms, point))

    def columns(self) -> dict[str, Any]:
        """Return the points as columns: ``at_ms``, and every number of the newest point."""
        names = self._points[-1][1] if self._points else ()
        columns = {name: [point.get(name) for _, point in self._points] for name in names}
        return {"slot_ms": 1_000 * self._slot_s, "kept": self._points.maxlen, "at_ms": self._times(), "points": columns}

    def _times(self) -> list[int]:
        return [at_ms for at_ms, _ in self._points]

    def _slot(self, at_ms: int) -> int:
        return at_ms // (1_000 * self._slot_s)


class RecentFreshness:
    """Freshness of the last minutes, from histograms that only rise."""

    def __init__(
        self, over_s: float = _FRESH_OVER_S, slot_s: float = _SLOT_S, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._over_s = over_s
        self._slot_s = slot_s
        self._clock_s = clock_s
        self._seen: deque[tuple[float, dict[str, list[int]]]] = deque()

    def slowest(self, workers: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the distribution of the worker whose 95th percentile is largest; None when no click was trained on.

        Parameters
        ----------
        workers
            ``Distribution`` since the start of each worker, by instance.
        """
        since = self._since({instance: whole["counts"] for instance, whole in workers.items()})
        found = []
        for instance, whole in workers.items():
            counts = _risen(since.get(instance, []), whole["counts"])
            if counts and counts[-1]:
                p50, p95 = (quantile(share, whole["bounds_s"], counts) for share in (0.5, 0.95))
                found.append((p95, instance, whole["bounds_s"], counts, p50))
        if not found:
            return None
        p95, instance, bounds, counts, p50 = max(found, key=lambda one: one[:2])
        return {"instance": instance, "bounds_s": bounds, "counts": counts, "p50_s": p50, "p95_s": p95}

    def _since(self, counts: dict[str, list[int]]) -> dict[str, list[int]]:
        """Return what was counted at the beginning of the span, and remember what is counted now."""
        now_s = self._clock_s()
        if not self._seen or now_s - self._seen[-1][0] >= self._slot_s:
            self._seen.append((now_s, counts))
        while len(self._seen) > 1 and now_s - self._seen[0][0] > self._over_s:
            self._seen.popleft()
        first_s, first = self._seen[0]
        # What was counted before the first look lies within the span too, as far as anybody knows.
        return {} if now_s - first_s < self._over_s - 2 * self._slot_s else first


def quantile(share: float, bounds_s: list[float], counts: list[int]) -> float:
    """Return a quantile of cumulative counts, as Prometheus does: linear within a bucket, at most the last bound.

    >>> quantile(0.5, [1.0, 2.0], [0, 4, 4])
    1.5
    """
    wanted = share * counts[-1]
    below, low = 0, 0.0
    for bound, count in zip(bounds_s, counts, strict=False):
        if count >= wanted and count > below:
            return low + (bound - low) * (wanted - below) / (count - below)
        below, low = count, bound
    return bounds_s[-1]


def _risen(before: list[int], now: list[int]) -> list[int]:
    if not before or before[-1] > now[-1]:  # it began anew
        return now
    return [count - earlier for count, earlier in zip(now, before, strict=True)]
