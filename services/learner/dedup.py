"""The window in which an event id counts only once, bounded by count and by time."""

from collections import deque
from hashlib import blake2b

import numpy as np


class DedupWindow:
    """Event ids seen lately, as 64-bit hashes: of a million ids two collide with a chance of 3 in 10⁸.

    Parameters
    ----------
    capacity
        Most ids remembered; the oldest leave first.
    horizon_ms
        How long an id is remembered, in append time. Must exceed the longest retry of a producer.
    """

    def __init__(self, capacity: int, horizon_ms: int) -> None:
        self._capacity = capacity
        self._horizon_ms = horizon_ms
        self._seen: dict[int, int] = {}
        self._order: deque[int] = deque()  # to ask the dict for its first key is to walk past all that left before

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, event_id: object) -> bool:
        return isinstance(event_id, str) and _hash(event_id) in self._seen

    def admit(self, event_id: str, append_ms: int) -> bool:
        """Remember the id; False when it was there already."""
        key = _hash(event_id)
        if key in self._seen:
            return False
        self._seen[key] = append_ms
        self._order.append(key)
        if len(self._order) > self._capacity:
            del self._seen[self._order.popleft()]
        return True

    def expire(self, watermark_ms: int) -> None:
        """Forget ids appended more than the horizon before the watermark; give the slowest partition's."""
        oldest = watermark_ms - self._horizon_ms
        while self._order and self._seen[self._order[0]] < oldest:
            del self._seen[self._order.popleft()]

    def state(self) -> dict[str, np.ndarray]:
        """Return the window as arrays, oldest first."""
        count = len(self._seen)
        return {
            "ids": np.fromiter(self._seen.keys(), np.uint64, count),
            "append_ms": np.fromiter(self._seen.values(), np.int64, count),
        }

    def restore(self, ids: np.ndarray, append_ms: np.ndarray) -> None:
        """Take over what ``state`` returned."""
        self._order = deque(ids.tolist())
        self._seen = dict(zip(self._order, append_ms.tolist(), strict=True))


def _hash(event_id: str) -> int:
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "little")
