"""Metrics and logs. Every metric is declared here; the names are API (streaming.md §6)."""

import logging
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 60.0)
_REQUEST_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

OUTCOMES = ("joined", "late_applied", "late_lost", "organic", "duplicate", "dead_lettered")
DEAD_LETTER_REASONS = ("json", "schema", "field", "type", "oversize", "poison")
REJECT_REASONS = ("size", "sha256", "header", "arch", "format", "finite", "canary", "vector_size")
DEGRADED_REASONS = ("history", "catalogue", "users", "snapshot", "impression")
LOSS_PARTS = ("total", "u", "n", "a", "a_empty", "choice", "organic")


class HttpMetrics:
    """One histogram for all HTTP routes of a service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Histogram(
            "moard_http_request_seconds",
            "Time from the first byte of a request to the last of its answer, by route template and status.",
            ["method", "route", "status"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )


class IngestMetrics:
    """What ingest and the history projector show."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.http = HttpMetrics(registry)
        self.events = Counter(
            "moard_ingest_events_total", "Events received over HTTP, by result.", ["result"], registry=registry
        )
        self.buffer_records = Gauge(
            "moard_ingest_buffer_records", "Records handed to the producer and not yet acknowledged.", registry=registry
        )
        self.history_errors = Counter(
            "moard_ingest_history_errors_total",
            "Batches whose history write failed and is left to the projector.",
            registry=registry,
        )
        self.projected = Counter(
            "moard_projector_visits_total", "Visits the projector wrote into user histories.", registry=registry
        )
        self.rebuilds = Counter(
            "moard_projector_rebuilds_total",
            "Rebuilds of all histories after the store came back empty.",
            registry=registry,
        )
        self.lag_records = Gauge(
            "moard_projector_consumer_lag_records",
            "Records of the partition the projector has not read yet.",
            ["topic", "partition"],
            registry=registry,
        )
        for result in ("accepted", "rejected", "unavailable"):
            self.events.labels(result)


class LearnerMetrics:
    """What the learner shows. Series are initialised for the partitions it owns."""

    def __init__(self, registry: CollectorRegistry, partitions: Iterable[tuple[str, int]]) -> None:
        def by_partition(name: str, text: str) -> Gauge:
            gauge = Gauge(name, text, ["topic", "partition"], registry=registry)
            for topic, partition in partitions:
                gauge.labels(topic, partition)
            return gauge

        partitions = list(partitions)
        self.lag_records = by_partition(
            "moard_learner_consumer_lag_records", "High water mark minus position: records not yet read."
        )
        self.lag_seconds = by_partition(
            "moard_learner_consumer_lag_seconds", "Now minus append time of the next unprocessed record; 0 when none."
        )
        self.log_end_offset = by_partition("moard_learner_log_end_offset", "High water mark of the partition.")
        self.position = by_partition("moard_learner_position", "Next offset the learner will read.")
        self.consumed = Counter(
            "moard_learner_records_consumed_total", "Records read.", ["topic", "partition"], registry=registry
        )
        self.event_age = Histogram(
            "moard_learner_event_age_seconds",
            "Now minus append time of an event when it reaches a stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.interactions = Counter(
            "moard_learner_interactions_total", "Interactions by what became of them.", ["outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "moard_learner_dead_letters_total", "Records sent to the dead-letter topic.", ["reason"], registry=registry
        )
        self.clamped_times = Counter(
            "moard_learner_clamped_times_total",
            "Event times moved into the allowed range.",
            ["bound"],
            registry=registry,
        )
        self.open_impressions = Gauge(
            "moard_learner_open_impressions", "Impressions that may still be joined.", registry=registry
        )
        self.watermark = Gauge(
            "moard_learner_watermark_timestamp_seconds",
            "Append time up to which deadlines were settled.",
            registry=registry,
        )
        self.replay_rows = Gauge("moard_learner_replay_rows", "Rows in the replay buffer.", registry=registry)
        self.inserted_rows = Counter(
            "moard_learner_rows_inserted_total", "Rows put into the buffer.", registry=registry
        )
        self.samples = Counter("moard_learner_samples_total", "Row samples drawn for updates.", registry=registry)
        self.updates = Counter("moard_learner_updates_total", "Gradient steps taken.", registry=registry)
        self.update_seconds = Histogram(
            "moard_learner_update_seconds", "Time of one update.", buckets=_REQUEST_SECONDS, registry=registry
        )
        self.loss = Gauge("moard_learner_loss", "Loss of the last update, by part.", ["part"], registry=registry)
        self.q_value = Gauge(
            "moard_learner_q_value", "Q of the last update's consumed contents.", ["stat"], registry=registry
        )
        self.td_error = Gauge(
            "moard_learner_td_error", "|TD error| of the last update.", ["quantile"], registry=registry
        )
        self.gradient_norm = Gauge(
            "moard_learner_gradient_norm", "Norm before clipping, last update.", registry=registry
        )
        self.queue_changes = Gauge(
            "moard_learner_queue_changes", "Row changes waiting for the training thread.", registry=registry
        )
        self.checkpoint_age = Gauge(
            "moard_learner_checkpoint_age_seconds", "Now minus the last complete checkpoint.", registry=registry
        )
        self.checkpoint_duration = Gauge(
            "moard_learner_checkpoint_duration_seconds", "Time the last checkpoint took to write.", registry=registry
        )
        self.snapshot_version = Gauge(
            "moard_learner_snapshot_version", "Version of the last published snapshot (epoch ms).", registry=registry
        )
        self.snapshot_seconds = Histogram(
            "moard_learner_snapshot_seconds",
            "Time to take and publish a snapshot.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.stale_history = Counter(
            "moard_learner_stale_history_total",
            "Impressions whose logged history lacks an interaction that was already acknowledged before them.",
            registry=registry,
        )
        self.impressions = Counter("moard_learner_impressions_total", "Impressions opened as rows.", registry=registry)
        self.evicted = Counter(
            "moard_learner_join_evictions_total", "Join entries dropped at a cap.", ["cap"], registry=registry
        )
        for outcome in OUTCOMES:
            self.interactions.labels(outcome)
        for reason in DEAD_LETTER_REASONS:
            self.dead_letters.labels(reason)
        for part in LOSS_PARTS:
            self.loss.labels(part)
        for topic, partition in partitions:
            self.consumed.labels(topic, partition)
        for stage in ("arrival", "insert", "trained"):
            self.event_age.labels(stage)
        for bound in ("future", "past"):
            self.clamped_times.labels(bound)
        for stat in ("mean", "max"):
            self.q_value.labels(stat)
        for quantile in ("0.5", "0.99"):
            self.td_error.labels(quantile)
        for cap in ("user", "global"):
            self.evicted.labels(cap)


class ServingMetrics:
    """What serving shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.http = HttpMetrics(registry)
        self.snapshot_age = Gauge(
            "moard_serving_snapshot_age_seconds",
            "Now minus creation of the snapshot in use; NaN before the first.",
            registry=registry,
        )
        self.snapshot_version = Gauge(
            "moard_serving_snapshot_version", "Version in use (epoch ms), 0 before the first.", registry=registry
        )
        self.snapshot_swaps = Counter("moard_serving_snapshot_swaps_total", "Snapshots swapped in.", registry=registry)
        self.snapshot_rejected = Counter(
            "moard_serving_snapshot_rejected_total", "Snapshots refused, by reason.", ["reason"], registry=registry
        )
        self.freshness = Histogram(
            "moard_freshness_seconds",
            "From the broker's acknowledgement of a click to this worker ranking with weights trained on it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.rankings = Counter(
            "moard_serving_rankings_total", "Rankings by policy and drawn arm.", ["policy", "arm"], registry=registry
        )
        self.degraded = Counter(
            "moard_serving_degraded_total",
            "Answers given without one of the parts, by part.",
            ["reason"],
            registry=registry,
        )
        self.impressions_dropped = Counter(
            "moard_serving_impressions_dropped_total",
            "Impressions lost at the full buffer or the deadline.",
            registry=registry,
        )
        self.impressions = Counter(
            "moard_serving_impressions_total", "Impressions acknowledged by the broker.", registry=registry
        )
        self.impressions_pending = Gauge(
            "moard_serving_impressions_pending", "Impressions waiting for the broker.", registry=registry
        )
        self.contents = Gauge("moard_serving_contents", "Contents in the resident matrix.", registry=registry)
        self.vectors_missing = Counter(
            "moard_serving_vectors_missing_total",
            "Contents met without a usable vector.",
            ["reason"],
            registry=registry,
        )
        for reason in REJECT_REASONS:
            self.snapshot_rejected.labels(reason)
        for reason in DEGRADED_REASONS:
            self.degraded.labels(reason)
        for reason in ("missing", "broken"):
            self.vectors_missing.labels(reason)


def configure_logging(level: str) -> None:
    """Send structlog and the standard library's loggers to stderr as JSON lines, at ``level`` and above."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
