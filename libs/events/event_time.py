"""When an event happened, as far as its sender can be believed (streaming.md §2)."""

from typing import Final, Literal, TypeAlias

from libs.events.schema import Source

Bound: TypeAlias = Literal["future", "past"]

LIVE_REACH_MS: Final = 24 * 3_600_000
"""How far back a live event may lie: a phone that was offline for a day. Anything older says ``backfill``."""


def event_time_ms(timestamp_ms: int | None, source: Source, append_ms: int) -> tuple[int, Bound | None]:
    """Return the event's time in epoch milliseconds, and the bound it was clamped to, if any.

    Without a time of its own an event happened when the broker appended it. No event happened after that, and a live
    one not more than a day before; a backfill may be as old as it says.

    >>> event_time_ms(4_102_444_800_000, "live", 1_700_000_000_000)  # the year 2100
    (1700000000000, 'future')
    >>> event_time_ms(874_724_710_000, "backfill", 1_700_000_000_000)  # MovieLens, 1997
    (874724710000, None)
    """
    if timestamp_ms is None:
        return append_ms, None
    if timestamp_ms > append_ms:
        return append_ms, "future"
    if source != "backfill" and timestamp_ms < append_ms - LIVE_REACH_MS:
        return append_ms - LIVE_REACH_MS, "past"
    return timestamp_ms, None
