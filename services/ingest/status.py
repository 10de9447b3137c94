"""What ingest, projector and catalogue follower say of themselves each second; the numbers are those of the metrics."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from libs.adapters.figures import by_label, by_labels, value
from libs.adapters.metrics import IngestMetrics
from libs.adapters.status import Rates
from libs.events.topics import LEARNER_GROUP


class IngestStatus:
    """Describes ingest; ``waiting_for`` names what is missing, empty when ready."""

    def __init__(
        self,
        metrics: IngestMetrics,
        waiting_for: Callable[[], Awaitable[list[str]]],
        unacknowledged: Callable[[], int],
    ) -> None:
        self._metrics = metrics
        self._waiting_for = waiting_for
        self._unacknowledged = unacknowledged
        self._rates: Rates[str] = Rates()

    async def describe(self) -> dict[str, Any]:
        """Return what it is doing, ready for JSON."""
        metrics, missing = self._metrics, await self._waiting_for()
        events = by_label(metrics.events)
        of_learner = {labels: lag for labels, lag in by_labels(metrics.group_lag).items() if labels[0] == LEARNER_GROUP}
        return {
            "health": {"state": "starting" if missing else "ok", "waiting_for": missing, "alarms": []},
            "events": events,
            "events_per_s": self._rates.per_s(events),
            "buffer_records": self._unacknowledged(),
            "history_errors": value(metrics.history_errors),
            "projector": {
                "partitions": _partitions(by_labels(metrics.lag_records)),
                "visits": value(metrics.projected),
                "rebuilds": value(metrics.rebuilds),
            },
            "learner": {"partitions": _partitions(of_learner)},
            "catalogue": {**by_label(metrics.catalogue), "removals_held": value(metrics.removals_held)},
        }


def _partitions(lag: Mapping[tuple[str, ...], float]) -> list[dict[str, Any]]:
    """Return lag by topic and partition, the last two labels."""
    return [
        {"topic": topic, "partition": int(partition), "lag_records": records}
        for (*_, topic, partition), records in lag.items()
    ]
