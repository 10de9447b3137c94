"""Every metric moard shows, with its help text; the names are API (streaming.md §6).

Every labelled series whose values are known is there from the start, so that no panel is empty because nothing went
wrong yet.
"""

from collections.abc import Iterable
from math import nan

from prometheus_client import CollectorRegistry, Gauge

from libs.adapters.evaluation_metrics import EvaluationMetrics
from libs.adapters.health_metrics import HealthMetrics
from libs.adapters.metric_declarations import REQUEST_SECONDS, Declared

OUTCOMES = ("joined", "late_applied", "late_lost", "organic", "duplicate", "dead_lettered", "erased")
DEAD_LETTER_REASONS = ("json", "schema", "field", "type", "oversize", "poison")
REJECT_REASONS = ("size", "sha256", "header", "arch", "format", "finite", "canary", "vector_size")
DEGRADED_REASONS = ("history", "catalogue", "users", "snapshot", "impression")
REFUSED_REASONS = (
    "key_missing",
    "key_invalid",
    "keys_unread",
    "scope",
    "origin",
    "rate",
    "concurrency",
    "head",
    "body_long",
    "body_slow",
    "media_type",
)
STATUS_FAILURES = "Statuses that the board did not take in time; only the console and moard status need it."
POLICIES = ("cold", "value", "a", "p")
ARMS = ("policy", "uniform", "greedy")
LOSS_PARTS = ("total", "u", "n", "a", "a_empty", "choice", "organic", "conservative")


class HttpMetrics:
    """One histogram for all HTTP routes of a service, and what was turned away in front of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Declared(registry).histogram(
            "moard_http_request_seconds",
            "Time from the first byte of a request to the last of its answer, by route template and status.",
            REQUEST_SECONDS,
            method=(),
            route=(),
            status=(),
        )
        self.refused = Declared(registry).counter(
            "moard_http_refused_total", "Requests turned away before their body was decoded.", reason=REFUSED_REASONS
        )


class IngestMetrics:
    """What ingest and the history projector show."""

    def __init__(self, registry: CollectorRegistry) -> None:
        declared = Declared(registry)
        self.http = HttpMetrics(registry)
        self.events = declared.counter(
            "moard_ingest_events_total",
            "Events received over HTTP, by result.",
            result=("accepted", "rejected", "unavailable"),
        )
        self.buffer_records = declared.gauge(
            "moard_ingest_buffer_records", "Records handed to the producer and not yet acknowledged."
        )
        self.history_errors = declared.counter(
            "moard_ingest_history_errors_total", "Batches whose history write failed and is left to the projector."
        )
        self.projected = declared.counter(
            "moard_projector_visits_total", "Visits the projector wrote into user histories."
        )
        self.rebuilds = declared.counter(
            "moard_projector_rebuilds_total", "Rebuilds of all histories after the store came back empty."
        )
        self.status_failures = declared.counter("moard_ingest_status_failures_total", STATUS_FAILURES)
        self.rebalances = declared.counter(
            "moard_projector_rebalances_total",
            "Times the broker gave this projector partitions anew; the first is its start.",
        )
        self.lag_records = declared.gauge(
            "moard_projector_consumer_lag_records",
            "Records of the partition that the projector has not written and committed yet; 0 where another one reads.",
            topic=(),
            partition=(),
        )
        self.group_lag = declared.gauge(
            "kafka_consumergroup_lag",
            "Log end minus what the learner's last checkpoint and the projector committed, as Kafka's tools show it. "
            "Named as kafka_exporter names it; of the learner also while none runs.",
            consumergroup=(),
            topic=(),
            partition=(),
        )
        self._declare_catalogue(declared)

    def _declare_catalogue(self, declared: Declared) -> None:
        self.catalogue = declared.counter(
            "moard_ingest_catalogue_contents_total",
            "Contents published from the table, or removed because their row is gone.",
            change=("published", "removed"),
        )
        self.removals_held = declared.gauge(
            "moard_ingest_catalogue_removals_held",
            "Contents whose row is gone and that stay, because too many went at once (MOARD_CATALOGUE_REMOVAL_SHARE).",
        )
        self.vectors_missing = declared.counter(
            "moard_ingest_vectors_missing_total",
            "Rows published whose own vector is missing or broken; computed from the text where a model is loaded.",
            reason=("missing", "broken"),
        )


class LearnerMetrics:
    """What the learner shows. Series are initialised for the partitions it owns."""

    def __init__(self, registry: CollectorRegistry, partitions: Iterable[tuple[str, int]]) -> None:
        declared = Declared(registry)
        self._declare_log(declared, list(partitions))
        self._declare_join(declared)
        self._declare_replay(declared)
        self._declare_training(declared)
        self._declare_publishing(declared)
        self.evaluation = EvaluationMetrics(declared)
        self.health = HealthMetrics(declared)
        self.status_failures = declared.counter("moard_learner_status_failures_total", STATUS_FAILURES)

    def _declare_log(self, declared: Declared, partitions: list[tuple[str, int]]) -> None:
        def by_partition(name: str, text: str) -> Gauge:
            gauge = declared.gauge(name, text, topic=(), partition=())
            for topic, partition in partitions:
                gauge.labels(topic, partition)
            return gauge

        self.lag_records = by_partition(
            "moard_learner_consumer_lag_records", "High water mark minus position: records not yet read."
        )
        self.lag_seconds = by_partition(
            "moard_learner_consumer_lag_seconds", "Now minus append time of the next unprocessed record; 0 when none."
        )
        self.log_end_offset = by_partition("moard_learner_log_end_offset", "High water mark of the partition.")
        self.position = by_partition("moard_learner_position", "Next offset the learner will read.")
        self.consumed = declared.counter(
            "moard_learner_records_consumed_total", "Records read.", topic=(), partition=()
        )
        for topic, partition in partitions:
            self.consumed.labels(topic, partition)
        self.log_ends_age = declared.gauge(
            "moard_learner_log_ends_age_seconds",
            "Now minus the broker's last answer about the ends of the log: lag is as old as that.",
        )
        self.turn_age = declared.gauge(
            "moard_learner_turn_age_seconds",
            "Now minus the last turn of the learner's loop; while it stands still, so do most of its metrics.",
        )
        self.gap_records = declared.counter(
            "moard_learner_gap_records_total", "Records that retention deleted before they were learned."
        )
        self.commit_failures = declared.counter(
            "moard_learner_commit_failures_total",
            "Offset commits the broker did not take; only lag displays depend on them.",
        )

    def _declare_join(self, declared: Declared) -> None:
        self.event_age = declared.histogram(
            "moard_learner_event_age_seconds",
            "Now minus append time of an event when it reaches a stage.",
            stage=("arrival", "insert", "trained"),
        )
        self.interactions = declared.counter(
            "moard_learner_interactions_total", "Interactions by what became of them.", outcome=OUTCOMES
        )
        self.dead_letters = declared.counter(
            "moard_learner_dead_letters_total", "Records sent to the dead-letter topic.", reason=DEAD_LETTER_REASONS
        )
        self.misrouted = declared.counter(
            "moard_learner_misrouted_total",
            "Events read in another partition than their user's: sent on to it, or known to have been sent on before.",
            result=("sent_on", "known"),
        )
        self.clamped_times = declared.counter(
            "moard_learner_clamped_times_total", "Event times moved into the allowed range.", bound=("future", "past")
        )
        self.impressions = declared.counter("moard_learner_impressions_total", "Impressions opened as rows.")
        self.open_impressions = declared.gauge(
            "moard_learner_open_impressions", "Impressions that may still be joined."
        )
        self.watermark = declared.gauge(
            "moard_learner_watermark_timestamp_seconds", "Append time up to which deadlines were settled."
        )
        self.duplicate_impressions = declared.counter(
            "moard_learner_duplicate_impressions_total", "Impressions dropped because their id came before."
        )
        self.retracted = declared.counter(
            "moard_learner_organic_retracted_total",
            "Interactions counted as organic that their impression took over later.",
        )
        self.stale_history = declared.counter(
            "moard_learner_stale_history_total",
            "Impressions whose logged history lacks an interaction that was already acknowledged before them.",
        )
        self.evicted = declared.counter(
            "moard_learner_join_evictions_total", "Join entries dropped at a cap.", cap=("user", "global", "story")
        )

    def _declare_replay(self, declared: Declared) -> None:
        self.replay_rows = declared.gauge("moard_learner_replay_rows", "Rows in the replay buffer.")
        self.inserted_rows = declared.counter("moard_learner_rows_inserted_total", "Rows put into the buffer.")
        self.samples = declared.counter("moard_learner_samples_total", "Row samples drawn for updates.")
        self.queue_changes = declared.gauge(
            "moard_learner_queue_changes", "Row changes waiting for the training thread."
        )

    def _declare_training(self, declared: Declared) -> None:
        self.updates = declared.counter("moard_learner_updates_total", "Gradient steps taken.")
        self.update_seconds = declared.histogram("moard_learner_update_seconds", "Time of one update.", REQUEST_SECONDS)
        self.loss = declared.gauge("moard_learner_loss", "Loss of the last update, by part.", part=LOSS_PARTS)
        self.q_value = declared.gauge(
            "moard_learner_q_value", "Q of the last update's consumed contents.", stat=("mean", "max")
        )
        self.td_error = declared.gauge(
            "moard_learner_td_error", "|TD error| of the last update.", quantile=("0.5", "0.99")
        )
        self.updates_not_finite = declared.counter(
            "moard_learner_updates_not_finite_total", "Updates thrown away because a gradient was not finite."
        )
        self.gradient_norm = declared.gauge("moard_learner_gradient_norm", "Norm before clipping, last update.")

    def _declare_publishing(self, declared: Declared) -> None:
        self.checkpoint_age = declared.gauge(
            "moard_learner_checkpoint_age_seconds", "Now minus the last complete checkpoint."
        )
        self.checkpoint_duration = declared.gauge(
            "moard_learner_checkpoint_duration_seconds", "Time the last checkpoint took to write."
        )
        self.checkpoint_failures = declared.counter(
            "moard_learner_checkpoint_failures_total", "Checkpoints that could not be written; the older ones stay."
        )
        self.snapshot_failures = declared.counter(
            "moard_learner_snapshot_failures_total", "Snapshots the store did not take in time; tried again."
        )
        self.snapshot_version = declared.gauge(
            "moard_learner_snapshot_version", "Version of the last published snapshot (epoch ms)."
        )
        self.snapshot_seconds = declared.histogram(
            "moard_learner_snapshot_seconds", "Time to take and publish a snapshot."
        )
        self.snapshots_refused = declared.counter(
            "moard_learner_snapshots_refused_total", "Snapshots the store refused: another learner holds the pointer."
        )


class ServingMetrics:
    """What serving shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.http = HttpMetrics(registry)
        self.status_failures = Declared(registry).counter("moard_serving_status_failures_total", STATUS_FAILURES)
        self._declare_snapshots(Declared(registry))
        self._declare_ranking(Declared(registry))

    def _declare_snapshots(self, declared: Declared) -> None:
        self.snapshot_age = declared.gauge(
            "moard_serving_snapshot_age_seconds",
            "Now minus creation of the snapshot in use; NaN before the first.",
            nan,
        )
        self.snapshot_version = declared.gauge(
            "moard_serving_snapshot_version", "Version in use (epoch ms), 0 before the first."
        )
        self.pinned_version = declared.gauge(
            "moard_serving_pinned_version", "Version that is pinned, 0 while the newest ranks."
        )
        self.snapshot_swaps = declared.counter("moard_serving_snapshot_swaps_total", "Snapshots swapped in.")
        self.snapshot_rejected = declared.counter(
            "moard_serving_snapshot_rejected_total", "Snapshots refused, by reason.", reason=REJECT_REASONS
        )
        self.freshness = declared.histogram(
            "moard_freshness_seconds",
            "From the broker's acknowledgement of a click to this worker ranking with weights trained on it.",
        )

    def _declare_ranking(self, declared: Declared) -> None:
        self.rankings = declared.counter(
            "moard_serving_rankings_total", "Rankings by policy and drawn arm.", policy=POLICIES, arm=ARMS
        )
        self.degraded = declared.counter(
            "moard_serving_degraded_total", "Answers given without one of the parts, by part.", reason=DEGRADED_REASONS
        )
        self.impressions_dropped = declared.counter(
            "moard_serving_impressions_dropped_total", "Impressions lost at the full buffer or the deadline."
        )
        self.impressions = declared.counter(
            "moard_serving_impressions_total", "Impressions acknowledged by the broker."
        )
        self.impressions_pending = declared.gauge(
            "moard_serving_impressions_pending", "Impressions waiting for the broker."
        )
        self.proposed = declared.counter(
            "moard_serving_proposed_total",
            "Candidates proposed for requests that named none, by source.",
            source=("nearest", "popular", "new", "random"),
        )
        self.contents = declared.gauge("moard_serving_contents", "Contents in the resident matrix.")
        self.vectors_missing = declared.counter(
            "moard_serving_vectors_missing_total",
            "Contents met without a usable vector.",
            reason=("missing", "broken"),
        )
