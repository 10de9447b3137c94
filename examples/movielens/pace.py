"""How fast the stream is played: a ceiling, and a brake for when the learner falls behind."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

_HARDEST_BRAKE = 10.0


@dataclass(frozen=True, slots=True)
class PaceSettings:
    """Six months of ratings in about two minutes, as long as rankings keep up with what was clicked."""

    requests_per_s: float = 150.0
    """Ceiling. 18,783 requests at 150 a second take 125 s."""
    in_flight: int = 16
    """Users served at the same moment; more only lengthens queues on two cores."""
    window: int = 1_500
    """Turns that the stream may be ahead of its oldest unfinished one; holds about ten users at any time."""
    lag_records: float = 600.0
    """Consumer lag above which the brake is pressed: about one second of events."""
    snapshot_age_s: float = 1.75
    """Age of the snapshot in use above which the brake is pressed: one a second is published, and takes its way."""


class Pace:
    """Gives each request its moment. ``now`` is a monotonic clock in seconds."""

    def __init__(self, settings: PaceSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._next_s = now()
        self.brake = 1.0

    async def slot(self) -> None:
        """Wait for the moment of the next request."""
        self._next_s = max(self._next_s, self._now()) + self.brake / self._settings.requests_per_s
        delay_s = self._next_s - self._now()
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    def observe(self, lag_records: float, snapshot_age_s: float) -> None:
        """Set the brake in proportion to how far the learner is behind. NaN, no snapshot yet, does not brake."""
        behind = [lag_records / self._settings.lag_records, snapshot_age_s / self._settings.snapshot_age_s]
        self.brake = min(_HARDEST_BRAKE, max([1.0, *(ratio for ratio in behind if ratio == ratio)]))
