"""What the join shows: its tallies as counters of this process."""

from collections import Counter as Tally
from typing import Final

import structlog
from prometheus_client import Counter

from libs.adapters.telemetry import OUTCOMES, LearnerMetrics
from services.learner.attribution import Attribution

log = structlog.get_logger(__name__)

STALE_REMEDY: Final = "histories lack acknowledged interactions: check the projector's lag and Redis"
_STALE_WINDOW: Final = 1_000  # impressions judged at a time
_STALE_SHARE: Final = 0.01  # more than a crash between acknowledgement and history write explains


class JoinMetrics:
    """Shows an ``Attribution``; what a checkpoint brought along is not counted again."""

    def __init__(self, attribution: Attribution, metrics: LearnerMetrics) -> None:
        self._attribution = attribution
        self._metrics = metrics
        self._shown = self._counts()
        self._judged = self._shown
        self._stale = False
        self._counters: dict[str, Counter] = {
            "impressions": metrics.impressions,
            "duplicate_impressions": metrics.duplicate_impressions,
            "stale_history": metrics.stale_history,
            "retracted": metrics.retracted,
            **{f"clamped_{bound}": metrics.clamped_times.labels(bound) for bound in ("future", "past")},
            **{f"evicted_{cap}": metrics.evicted.labels(cap) for cap in ("user", "global", "story")},
            **{outcome: metrics.interactions.labels(outcome) for outcome in OUTCOMES},
        }

    def show(self) -> None:
        """Bring the metrics up to date."""
        counts = self._counts()
        for name, counter in self._counters.items():
            if (more := counts[name] - self._shown[name]) > 0:
                counter.inc(more)
        self._shown = counts
        self._judge_histories(counts)
        self._metrics.open_impressions.set(self._attribution.open_impressions)
        self._metrics.watermark.set(self._attribution.watermark_ms / 1000)

    def _judge_histories(self, counts: Tally[str]) -> None:
        impressions = counts["impressions"] - self._judged["impressions"]
        if impressions >= _STALE_WINDOW:
            stale = (counts["stale_history"] - self._judged["stale_history"]) / impressions > _STALE_SHARE
            self._metrics.health.alarm.labels("stale_history").set(stale)
            if stale and not self._stale:
                log.error("learning.alarm", alarm="stale_history", remedy=STALE_REMEDY)
            elif self._stale and not stale:
                log.info("learning.alarm_over", alarm="stale_history")
            self._judged, self._stale = counts, stale

    def _counts(self) -> Tally[str]:
        """Return the tallies as counters that only rise and still add up.

        An interaction counted as organic cannot be taken back from a counter: when its impression takes it over it
        stays organic here, and ``retracted`` says how many did.
        """
        counts = self._attribution.tally.copy()
        for outcome in ("joined", "late_applied"):
            counts["retracted"] += counts[f"retracted_{outcome}"]
            counts[outcome] -= counts[f"retracted_{outcome}"]
        return counts
