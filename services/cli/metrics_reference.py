"""Writes the metrics page from the declarations: ``python -m services.cli.metrics_reference`` after changing a metric.

A test compares the committed page with this: names are API, and a changed one shows in the difference.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from libs.adapters.metrics import HttpMetrics, IngestMetrics, LearnerMetrics, ServingMetrics
from libs.adapters.supervisor_metrics import SupervisorMetrics

PAGE: Final = Path("docs/reference/metrics.md")

_INTRODUCTION: Final = """# Metrics

Every service answers `GET /metrics`, the learner on a port of its own. Generated from the declarations. Names end with
their unit; a counter ends with `_total`; the series of a histogram with `_bucket`, `_count` and `_sum`. Series whose
label values are listed here exist from the start; the others come with the first partition or request. With several
serving workers each series of serving carries the label `worker`. Each process shows its own `process_*` besides.

What to look at, and when to worry: [watch with Grafana](../how-to/watch-with-grafana.md)."""

_SECTIONS: Final[tuple[tuple[str, Callable[[CollectorRegistry], object]], ...]] = (
    ("Ingest and serving", HttpMetrics),
    ("Ingest", IngestMetrics),
    ("Learner", lambda registry: LearnerMetrics(registry, [])),
    ("Serving", ServingMetrics),
    ("Serving with several workers", lambda registry: SupervisorMetrics(registry, [])),
)


class _Declarations(CollectorRegistry):
    """Keeps what is declared, in its order.

    What a registry collects says nothing of the labels of a metric that has no series yet; its declaration does, under
    names that the library keeps to itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.declared: list[Any] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.declared.append(collector)


def main() -> None:
    """Rewrite the page in the current folder."""
    PAGE.write_text(page())


def page() -> str:
    """Return the metrics reference as Markdown."""
    lines, shown = [_INTRODUCTION], set[str]()
    for title, declare in _SECTIONS:
        registry = _Declarations()
        declare(registry)
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
        lines += [_row(metric) for metric in registry.declared if _name(metric) not in shown]
        shown |= {_name(metric) for metric in registry.declared}
    return "\n".join(lines) + "\n"


def _row(metric: Any) -> str:
    text = metric._documentation.replace("|", "\\|")
    return f"| `{_name(metric)}` | {metric._type} | {_labels(metric)} | {text} |"


def _name(metric: Any) -> str:
    return f"{metric._name}_total" if metric._type == "counter" else str(metric._name)


def _labels(metric: Any) -> str:
    samples = [sample.labels for family in metric.collect() for sample in family.samples]
    return "; ".join(
        f"`{label}`: {_listed(sample[label] for sample in samples if label in sample)}" if samples else f"`{label}`"
        for label in metric._labelnames
    )


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


if __name__ == "__main__":
    main()
