"""How long the join waits, and how much it keeps."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Windows:
    """How long after an impression something still belongs to it, in seconds.

    The same spans are used twice: as differences of event times when an interaction is matched, and as differences of
    append times when a deadline is set (streaming.md §2).
    """

    click_s: float = 600.0
    dwell_s: float = 1_800.0
    horizon_s: float = 1_800.0
    displacement_s: float = 60.0

    def of(self, kind: str) -> int:
        """Return the window of one interaction kind, in ms."""
        return int(1000 * (self.click_s if kind == "click" else self.dwell_s))

    @property
    def horizon_ms(self) -> int:
        """How long a story may pause and still go on, in ms."""
        return int(1000 * self.horizon_s)

    @property
    def final_ms(self) -> int:
        """How long after its append an impression may still be changed by events displaced within bounds, in ms."""
        return int(1000 * (max(self.click_s, self.dwell_s, self.horizon_s) + self.displacement_s))


PROFILES = {
    "live": Windows(),
    # A replay squeezes days into minutes, without timestamps of its own: a session's pause becomes half a minute.
    "compressed": Windows(click_s=20.0, dwell_s=30.0, horizon_s=30.0, displacement_s=5.0),
}


@dataclass(frozen=True, slots=True)
class JoinLimits:
    """Bounds on the join's memory; what a cap drops is counted."""

    open_impressions: int = 200_000
    user_impressions: int = 200
    user_loose: int = 100
    users: int = 50_000
    closed_impressions: int = 100_000
    dedup_events: int = 1_000_000
    dedup_s: float = 21_600.0
    buffer_rows: int = 1_000_000


@dataclass(frozen=True, slots=True)
class JoinRules:
    """Everything the join is told."""

    windows: Windows = Windows()
    limits: JoinLimits = JoinLimits()
    min_dwell_ms: int = 10_000
    require_seen: bool = False
