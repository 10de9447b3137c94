"""What the three services say of themselves: their ``/metrics`` pages, as the numbers of the view and the report."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from libs.events.topics import EVENTS


class Page:
    """One metrics page."""

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name that carry these labels; 0 without any."""
        return sum(value for _, value in self._matching(name, labels))

    def value(self, name: str, **labels: str) -> float:
        """Return the only series of a name that carries these labels; NaN when there is none."""
        return next((value for _, value in self._matching(name, labels)), math.nan)

    def quantile(self, histogram: str, q: float) -> float:
        """Return a quantile as Prometheus computes it: linear inside the bucket it falls into; NaN without samples."""
        buckets: dict[float, float] = {}
        for labels, count in self._samples.get(f"{histogram}_bucket", []):
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + count
        total = buckets.get(math.inf, 0.0)
        lower, below = 0.0, 0.0
        for bound, count in sorted(buckets.items()):
            if total and count >= q * total:
                return lower if math.isinf(bound) else lower + (bound - lower) * (q * total - below) / (count - below)
            lower, below = bound, count
        return math.nan

    def _matching(self, name: str, labels: Mapping[str, str]) -> Iterable[tuple[Mapping[str, str], float]]:
        return (
            (found, value)
            for found, value in self._samples.get(name, [])
            if all(found.get(label) == wanted for label, wanted in labels.items())
        )


@dataclass(frozen=True, slots=True)
class Readings:
    """One look at all services. ``at_s`` is a monotonic clock."""

    at_s: float
    ingest: Page
    learner: Page
    serving: Page

    @property
    def accepted(self) -> int:
        """Events that ingest acknowledged."""
        return int(self.ingest.total("moard_ingest_events_total", result="accepted"))

    @property
    def impressions(self) -> int:
        """Impressions that serving brought to the broker."""
        return int(self.serving.total("moard_serving_impressions_total"))

    @property
    def impressions_dropped(self) -> int:
        """Impressions that serving lost."""
        return int(self.serving.total("moard_serving_impressions_dropped_total"))

    @property
    def settled(self) -> int:
        """Interactions of which the learner knows what became of them."""
        return int(self.learner.total("moard_learner_interactions_total"))

    @property
    def opened(self) -> int:
        """Impressions that the learner read."""
        return int(self.learner.total("moard_learner_impressions_total"))

    @property
    def lag_records(self) -> int:
        """Events in Kafka that the learner has not read."""
        return int(self.learner.total("moard_learner_consumer_lag_records", topic=EVENTS))

    @property
    def updates(self) -> int:
        """Gradient steps."""
        return int(self.learner.total("moard_learner_updates_total"))

    @property
    def loss(self) -> float:
        """Loss of the last update."""
        return self.learner.value("moard_learner_loss", part="total")

    @property
    def stale_history(self) -> float:
        """Share of impressions whose logged history lacked an acknowledged interaction; 0 before the first."""
        return self.learner.total("moard_learner_stale_history_total") / max(1, self.opened)

    @property
    def snapshot_version(self) -> int:
        """Version that serving ranks with, 0 before the first."""
        version = self.serving.value("moard_serving_snapshot_version")
        return 0 if math.isnan(version) else int(version)

    @property
    def snapshot_age_s(self) -> float:
        """Age of that snapshot; NaN before the first."""
        return self.serving.value("moard_serving_snapshot_age_seconds")

    @property
    def contents(self) -> int:
        """Contents that serving can rank."""
        return int(self.serving.total("moard_serving_contents"))

    def freshness_s(self, q: float) -> float:
        """Return a quantile of the time from a click's acknowledgement to rankings that learned from it."""
        return self.serving.quantile("moard_freshness_seconds", q)

    def events_per_s(self, earlier: "Readings") -> float:
        """Return the rate at which events reached Kafka since an earlier look: impressions and interactions."""
        events = self.accepted + self.impressions - earlier.accepted - earlier.impressions
        return events / max(1e-9, self.at_s - earlier.at_s)

    def updates_per_s(self, earlier: "Readings") -> float:
        """Return the rate of gradient steps since an earlier look."""
        return (self.updates - earlier.updates) / max(1e-9, self.at_s - earlier.at_s)


NOTHING_YET = Readings(0.0, Page(), Page(), Page())
