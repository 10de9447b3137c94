"""What the supervisor of several serving workers shows, beside the workers' own metrics."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry

from libs.adapters.metric_declarations import Declared


class SupervisorMetrics:
    """How many workers there are, and how often one had to be started again. ``worker`` is the worker's place."""

    def __init__(self, registry: CollectorRegistry, places: Collection[str]) -> None:
        declared = Declared(registry)
        self.ready = declared.gauge("moard_serving_worker_ready", "1 while this worker is ready.", worker=places)
        self.restarts = declared.counter(
            "moard_serving_worker_restarts_total", "Times this worker ended by itself and was replaced.", worker=places
        )
        self.rolling_restarts = declared.counter(
            "moard_serving_rolling_restarts_total",
            "Rolling restarts by result; abandoned: a new worker did not become ready, the old one stayed.",
            result=("done", "abandoned"),
        )
