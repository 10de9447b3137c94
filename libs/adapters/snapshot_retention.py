"""Which snapshots a store keeps (streaming.md §5)."""

from collections.abc import Iterable

KEPT_NEWEST = 10  # at one a second, a rollback of ten seconds is always possible
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def superseded(versions: Iterable[int]) -> list[int]:
    """Return the versions to drop: all but the newest ten and the newest of each hour for a day.

    Versions are epoch milliseconds, so they carry their own clock.

    >>> superseded([1, 2, 3])
    []
    >>> superseded(range(12))
    [0, 1]
    """
    newest_first = sorted(versions, reverse=True)
    kept_hours: set[int] = set()
    dropped: list[int] = []
    for rank, version in enumerate(newest_first):
        hour = version // _HOUR_MS
        first_of_its_hour = hour not in kept_hours and version > newest_first[0] - _DAY_MS
        if rank < KEPT_NEWEST or first_of_its_hour:
            kept_hours.add(hour)
        else:
            dropped.append(version)
    return sorted(dropped)
