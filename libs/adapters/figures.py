"""Numbers out of metrics, so that a status says what ``/metrics`` says: each number is defined once."""

import math
from collections.abc import Iterator
from typing import Any, TypedDict

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample


class Distribution(TypedDict):
    """A histogram: ``counts`` of observations up to each of ``bounds_s``, then of all."""

    bounds_s: list[float]
    counts: list[int]
    sum_s: float


def value(metric: Counter | Gauge) -> float:
    """Return the only series of a metric without labels."""
    return next(_samples(metric)).value


def by_label(metric: Counter | Gauge) -> dict[str, float]:
    """Return the series of a metric with one label, by its value."""
    return {next(iter(sample.labels.values())): sample.value for sample in _samples(metric)}


def by_labels(metric: Counter | Gauge) -> dict[tuple[str, ...], float]:
    """Return the series of a metric, by the values of its labels in the order of their declaration."""
    return {tuple(sample.labels.values()): sample.value for sample in _samples(metric)}


def distribution(metric: Histogram) -> Distribution:
    """Return a histogram without labels."""
    buckets = [sample for sample in _samples(metric) if sample.name.endswith("_bucket")]
    total = next(sample.value for sample in _samples(metric) if sample.name.endswith("_sum"))
    bounds = [float(sample.labels["le"]) for sample in buckets]
    return {
        "bounds_s": [bound for bound in bounds if math.isfinite(bound)],
        "counts": [int(sample.value) for sample in buckets],
        "sum_s": total,
    }


def _samples(metric: Counter | Gauge | Histogram) -> Iterator[Sample]:
    families: Any = metric.collect()
    return (sample for family in families for sample in family.samples if not sample.name.endswith("_created"))
