"""What a serving worker says of itself each second; the numbers are those of its metrics."""

from collections.abc import Callable
from typing import Any

from libs.adapters.figures import by_label, by_labels, distribution, value
from libs.adapters.metrics import ServingMetrics
from libs.adapters.status import Rates


class ServingStatus:
    """Describes a worker.

    Parameters
    ----------
    waiting_for
        Names what is missing before traffic should come, empty when ready.
    pin
        Name of what it was told to rank with, None while it follows the newest.
    """

    def __init__(
        self, metrics: ServingMetrics, waiting_for: Callable[[], list[str]], pin: Callable[[], str | None]
    ) -> None:
        self._metrics = metrics
        self._waiting_for = waiting_for
        self._pin = pin
        self._rates: Rates[str] = Rates()

    async def describe(self) -> dict[str, Any]:
        """Return what it is doing, ready for JSON."""
        metrics, missing = self._metrics, self._waiting_for()
        rankings = by_labels(metrics.rankings)
        return {
            "health": {"state": "starting" if missing else "ok", "waiting_for": missing, "alarms": []},
            "snapshot": {
                "version": value(metrics.snapshot_version),
                "age_s": value(metrics.snapshot_age),
                "pinned_version": value(metrics.pinned_version),
                "pin": self._pin(),
                "swaps": value(metrics.snapshot_swaps),
                "rejected": by_label(metrics.snapshot_rejected),
            },
            "freshness": distribution(metrics.freshness),
            "rankings": [{"policy": policy, "arm": arm, "count": count} for (policy, arm), count in rankings.items()],
            "rankings_per_s": self._rates.per_s({"rankings": sum(rankings.values())})["rankings"],
            "degraded": by_label(metrics.degraded),
            "impressions": {
                "acknowledged": value(metrics.impressions),
                "pending": value(metrics.impressions_pending),
                "dropped": value(metrics.impressions_dropped),
            },
            "contents": value(metrics.contents),
        }
