"""What the training thread shows."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from libs.adapters.telemetry import LearnerMetrics
from libs.rl.agent import Report
from libs.rl.exposure import Exposure
from libs.rl.watch import REMEDIES

_AGES_A_BATCH: Final = 16  # enough for a distribution; observing each change would cost as much as applying it


class TrainingMetrics:
    """Sets the metrics of buffer and updates; only the training thread calls it."""

    def __init__(self, metrics: LearnerMetrics, clock_ms: Callable[[], int]) -> None:
        self._metrics = metrics
        self._health = metrics.health
        self._clock_ms = clock_ms
        self._inserted = self._samples = 0

    def start_from(self, inserted: int, samples: int) -> None:
        """Count from here: what a checkpoint brought along happened before this process."""
        self._inserted, self._samples = inserted, samples

    def applied(self, append_ms: Sequence[int]) -> None:
        """Note when the interactions just written into the buffer were appended."""
        self._observe("insert", append_ms)

    def updated(self, report: Report, seconds: float, trained_append_ms: Sequence[int]) -> None:
        """Show one update."""
        metrics = self._metrics
        metrics.update_seconds.observe(seconds)
        if not report.finite:
            metrics.updates_not_finite.inc()
            return
        metrics.updates.inc()
        self._observe("trained", trained_append_ms)
        for part, value in report.loss.items():
            metrics.loss.labels(part).set(value)
        metrics.q_value.labels("mean").set(report.q_mean)
        metrics.q_value.labels("max").set(report.q_max)
        metrics.td_error.labels("0.5").set(report.td_p50)
        metrics.td_error.labels("0.99").set(report.td_p99)
        metrics.gradient_norm.set(report.gradient_norm)
        self._stories(report)

    def alarms(self, held: Collection[str]) -> None:
        """Show which alarms of the training thread hold."""
        for alarm in REMEDIES:
            self._health.alarm.labels(alarm).set(alarm in held)

    def went_back(self) -> None:
        """Count one return to the last good weights."""
        self._health.weights_restored.inc()

    def exposed(self, seen: Exposure, boost: float) -> None:
        """Show what the newest slates were like, and the exploration asked for."""
        self._health.exploration_boost.set(boost)
        self._health.exposure.labels("coverage").set(seen.coverage)
        self._health.exposure.labels("gini").set(seen.gini)
        self._health.slate_entropy.set(seen.entropy)
        self._health.slate_propensity.set(seen.propensity_min)

    def buffer(self, rows: int, inserted: int, samples: int, waiting: int) -> None:
        """Show how full buffer and queue are."""
        self._metrics.replay_rows.set(rows)
        self._metrics.queue_changes.set(waiting)
        self._metrics.inserted_rows.inc(inserted - self._inserted)
        self._metrics.samples.inc(samples - self._samples)
        self._inserted, self._samples = inserted, samples

    def _stories(self, report: Report) -> None:
        health = self._health
        health.share.labels("terminal").set(report.terminal_share)
        health.share.labels("empty").set(report.empty_share)
        health.continuation.set(report.continuation_mean)
        health.advantage_spread.set(report.advantage_spread)
        health.value_bound.set(report.value_bound)
        health.row_age.set(report.row_age_p50)
        for layer, share in enumerate(report.dormant, start=1):
            health.dormant.labels(str(layer)).set(share)
        for gap_s, discount in report.gaps:
            health.gaps.observe(gap_s)
            health.discounts.observe(discount)

    def _observe(self, stage: str, append_ms: Sequence[int]) -> None:
        now_ms = self._clock_ms()
        ages = self._metrics.event_age.labels(stage)
        for each in append_ms[:: 1 + len(append_ms) // _AGES_A_BATCH]:
            ages.observe(max(0, now_ms - each) / 1000)
