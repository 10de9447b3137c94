"""What the learner says of itself each second; the numbers are those of its metrics."""

import math
from collections.abc import Callable
from typing import Any, Final

from libs.adapters.figures import by_label, by_labels, value
from libs.adapters.status import Rates
from libs.adapters.telemetry import LearnerMetrics
from libs.rl.watch import REMEDIES
from services.learner.join_metrics import STALE_REMEDY

_REMEDIES: Final = {**REMEDIES, "stale_history": STALE_REMEDY}


class LearnerStatus:
    """Describes a learner.

    Parameters
    ----------
    healthy
        Tells whether it learns; None while it still looks for where the last one was.
    """

    def __init__(self, metrics: LearnerMetrics, healthy: Callable[[], bool | None]) -> None:
        self._metrics = metrics
        self._healthy = healthy
        self._rates: Rates[tuple[str, ...]] = Rates()

    async def describe(self) -> dict[str, Any]:
        """Return what it is doing, ready for JSON."""
        metrics, q = self._metrics, by_label(self._metrics.q_value)
        partitions = self._partitions()
        return {
            "health": self._health(),
            "lag": _lag(partitions),
            "partitions": partitions,
            "outcomes": by_label(metrics.interactions),
            "dead_letters": by_label(metrics.dead_letters),
            "impressions": value(metrics.impressions),
            "open_impressions": value(metrics.open_impressions),
            "watermark_s": value(metrics.watermark),
            "loss": by_label(metrics.loss),
            "q": q,
            "updates": value(metrics.updates),
            "updates_not_finite": value(metrics.updates_not_finite),
            "replay_rows": value(metrics.replay_rows),
            "queue_changes": value(metrics.queue_changes),
            "checkpoint": {
                "age_s": value(metrics.checkpoint_age),
                "duration_s": value(metrics.checkpoint_duration),
                "failures": value(metrics.checkpoint_failures),
            },
            "snapshot": {
                "version": value(metrics.snapshot_version),
                "failures": value(metrics.snapshot_failures),
                "refused": value(metrics.snapshots_refused),
            },
            "gap_records": value(metrics.gap_records),
            "evaluation": {span: self._evaluation(span) for span in ("window", "total")},
        }

    def _health(self) -> dict[str, Any]:
        healthy = self._healthy()
        state = "starting" if healthy is None else "ok" if healthy else "failing"
        held = [alarm for alarm, on in by_label(self._metrics.health.alarm).items() if on]
        return {
            "state": state,
            "waiting_for": ["broker, Redis and the last checkpoint"] if healthy is None else [],
            "alarms": [{"alarm": alarm, "remedy": _REMEDIES[alarm]} for alarm in held],
        }

    def _partitions(self) -> list[dict[str, Any]]:
        metrics = self._metrics
        lag_s, ends, positions = (
            by_labels(gauge) for gauge in (metrics.lag_seconds, metrics.log_end_offset, metrics.position)
        )
        read = self._rates.per_s(
            {("read", *place): offset for place, offset in positions.items()}
            | {("appended", *place): offset for place, offset in ends.items()}
        )
        return [
            {
                "topic": place[0],
                "partition": int(place[1]),
                "lag_records": records,
                "lag_s": lag_s[place],
                "end_offset": ends[place],
                "position": positions[place],
                "read_per_s": read["read", *place],
                "appended_per_s": read["appended", *place],
            }
            for place, records in by_labels(metrics.lag_records).items()
        ]

    def _evaluation(self, span: str) -> dict[str, Any]:
        """Return what the policies that served earned, and what the uniform arm would have."""
        metrics = self._metrics.evaluation
        values = by_labels(metrics.policy_value)
        weights, validity = by_labels(metrics.policy_weights), by_labels(metrics.valid)
        uniform = {stat: values["uniform", "snrips", stat, span] for stat in ("value", "low", "high")}
        return {
            "rows": by_label(metrics.rows)[span],
            "served": by_label(metrics.logged_value)[span],
            "uniform": uniform | {"ess": weights["uniform", "snrips", "ess", span]},
            "invalid": [reason for (reason, of), valid in validity.items() if of == span and not valid],
        }


def _lag(partitions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the lag of all partitions together: records add up, the one furthest behind tells the seconds."""
    records = sum(partition["lag_records"] for partition in partitions)
    read = sum(partition["read_per_s"] for partition in partitions)
    gain = read - sum(partition["appended_per_s"] for partition in partitions)
    drain_s = 0.0 if not records else records / gain if gain > 0 else math.inf  # JSON: null
    return {
        "records": records,
        "seconds": max((partition["lag_s"] for partition in partitions), default=0.0),
        "read_per_s": read,
        "drain_s": drain_s,
    }
