"""Metrics of one registry, declared with the values of their labels: every series is there from the start."""

from collections.abc import Collection
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 60.0)
REQUEST_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Declared:
    """Makes metrics in one registry; a label is given with its known values, none if they come at run time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, **labels: Collection[str]) -> Counter:
        """Return a counter."""
        metric = Counter(name, text, list(labels), registry=self._registry)
        _initialise(metric, labels)
        return metric

    def gauge(self, name: str, text: str, initial: float = 0.0, /, **labels: Collection[str]) -> Gauge:
        """Return a gauge; ``initial`` is what its series show until they are set, NaN where 0 would be a claim."""
        metric = Gauge(name, text, list(labels), registry=self._registry)
        _initialise(metric, labels)
        if initial:
            for values in product(*labels.values()):
                (metric.labels(*values) if labels else metric).set(initial)
        return metric

    def histogram(
        self, name: str, text: str, buckets: tuple[float, ...] = SECONDS, **labels: Collection[str]
    ) -> Histogram:
        """Return a histogram."""
        metric = Histogram(name, text, list(labels), buckets=buckets, registry=self._registry)
        _initialise(metric, labels)
        return metric


def _initialise(metric: Counter | Gauge | Histogram, labels: dict[str, Collection[str]]) -> None:
    if labels:
        for values in product(*labels.values()):
            metric.labels(*values)
