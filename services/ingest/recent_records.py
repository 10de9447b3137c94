"""Which records this process has appended and also written into histories: the projector need not do it again."""

from collections.abc import Iterable
from typing import Final

_CAPACITY: Final = 50_000  # a few seconds at full speed, longer than the projector lags; about 5 MB


class RecentRecords:
    """Remembers the values of recent records by a 64-bit hash, two generations of bounded size.

    Equal bytes are the same event, so a value that was sent twice is rightly one. What is forgotten too early is
    projected once more, which changes nothing.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, values: Iterable[bytes]) -> None:
        """Remember these."""
        self._young.update(map(hash, values))  # SipHash under a key of this process: nobody can make two collide
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, set()

    def __contains__(self, value: bytes | None) -> bool:
        """Tell whether this value was added lately."""
        found = hash(value)
        return found in self._young or found in self._old
