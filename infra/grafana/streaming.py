"""From the log to the learner: lag, event age, and what becomes of every event."""

from typing import Final

from infra.grafana.panels import Dashboard, Panel, Query, Row

_PARTITION: Final = "{{topic}}/{{partition}}"

_LAG: Final = Row(
    "Lag of the learner",
    (
        Panel(
            "Lag by partition",
            "High water mark minus position: records that exist and were not read. One partition alone points to a "
            "producer that does not partition by murmur2 of the user, or to one very busy user.",
            "suffix:records",
            (Query("sum by (topic, partition) (moard_learner_consumer_lag_records)", _PARTITION),),
        ),
        Panel(
            "Lag by partition, in time",
            "Now minus the append time of the next record that was not read; 0 when none waits.",
            "s",
            (Query("max by (topic, partition) (moard_learner_consumer_lag_seconds)", _PARTITION),),
            warn=30,
        ),
        Panel(
            "Time to drain",
            "Lag over (read − appended) per second. A gap where as much arrives as is read: it never drains like that.",
            "s",
            (Query("topic_partition:moard_learner_drain:seconds", _PARTITION),),
            warn=900,
        ),
        Panel(
            "Appended by partition",
            "How fast the end of the log moves, over a minute.",
            "suffix:records/s",
            (Query("topic_partition:moard_learner_produced:rate1m", _PARTITION),),
        ),
        Panel(
            "Read by partition",
            "How fast the learner reads, over a minute.",
            "suffix:records/s",
            (Query("topic_partition:moard_learner_consumed:rate1m", _PARTITION),),
        ),
        Panel(
            "Lag by consumer group",
            "What the learner's last checkpoint does not contain, and what the projector has not committed, as Kafka's "
            "own tools show it. Ingest asks the broker, so that the learner's rises also when there is no learner.",
            "suffix:records",
            (
                Query(
                    "sum by (consumergroup, topic) "
                    "(max by (consumergroup, topic, partition) (kafka_consumergroup_lag))",  # each ingest tells it
                    "{{consumergroup}} {{topic}}",
                ),
            ),
        ),
    ),
)


def _age(share: float) -> str:
    return (
        f"histogram_quantile({share}, sum by (stage, le) "
        "(rate(moard_learner_event_age_seconds_bucket[$__rate_interval])))"
    )


_AGE: Final = Row(
    "How old events are",
    (
        Panel(
            "Event age at each stage, p50",
            "Now minus append time when an event arrives at the learner, is inserted into the buffer, and is first "
            "trained on. The stage where it jumps is the one that holds events up.",
            "s",
            (Query(_age(0.5), "{{stage}}"), Query("moard:freshness_seconds:p50", "ranked")),
        ),
        Panel(
            "Event age at each stage, p95",
            "The same for the slowest of twenty.",
            "s",
            (Query(_age(0.95), "{{stage}}"), Query("moard:freshness_seconds:p95", "ranked")),
            warn=5,
        ),
        Panel(
            "Waiting inside",
            "Row changes in front of the training thread (reading pauses when the queue is full), and events handed to "
            "the producer that the broker has not acknowledged.",
            "short",
            (
                Query("sum(moard_learner_queue_changes)", "changes before training"),
                Query("sum(moard_ingest_buffer_records)", "unacknowledged in ingest"),
                Query("sum(moard_serving_impressions_pending)", "unacknowledged in serving"),
            ),
        ),
        Panel(
            "Watermark behind",
            "Now minus the append time up to which deadlines are settled. It follows the clock when nothing comes.",
            "s",
            (Query("time() - max(moard_learner_watermark_timestamp_seconds > 0)", "behind"),),
        ),
        Panel(
            "Last answers",
            "Now minus the broker's last answer about the log's ends (lag is as old as that), and the last turn.",
            "s",
            (
                Query("max(moard_learner_log_ends_age_seconds)", "broker"),
                Query("max(moard_learner_turn_age_seconds)", "loop"),
            ),
            warn=30,
        ),
        Panel(
            "Joins that are open",
            "Impressions that may still be joined; each takes memory until its window passes.",
            "suffix:impressions",
            (Query("sum(moard_learner_open_impressions)", "open"),),
        ),
    ),
)

_OUTCOMES: Final = Row(
    "What becomes of events",
    (
        Panel(
            "Events over HTTP",
            "accepted: in the log. rejected: the sender's fault, answered with the reason. unavailable: the broker did "
            "not take them in time, to be sent again.",
            "suffix:events/s",
            (Query("sum by (result) (rate(moard_ingest_events_total[$__rate_interval]))", "{{result}}"),),
        ),
        Panel(
            "Interactions by outcome",
            "Each interaction ends in exactly one. late_lost: its row had left the buffer. organic: it belongs to no "
            "impression.",
            "suffix:/s",
            (Query("sum by (outcome) (rate(moard_learner_interactions_total[$__rate_interval]))", "{{outcome}}"),),
        ),
        Panel(
            "Dead letters",
            "Records that could not be used, by reason; kept whole in moard.events.dlq.",
            "suffix:records/s",
            (Query("sum by (reason) (rate(moard_learner_dead_letters_total[$__rate_interval]))", "{{reason}}"),),
        ),
        Panel(
            "Impressions",
            "Opened as rows, and dropped because their id had come before (repetitions are normal after a retry).",
            "suffix:/s",
            (
                Query("sum(rate(moard_learner_impressions_total[$__rate_interval]))", "opened"),
                Query("sum(rate(moard_learner_duplicate_impressions_total[$__rate_interval]))", "duplicate"),
            ),
        ),
        Panel(
            "Times and histories",
            "Event times moved into the allowed range (clocks of clients), and impressions whose logged history lacks "
            "an interaction that was acknowledged before them.",
            "suffix:/s",
            (
                Query(
                    "sum by (bound) (rate(moard_learner_clamped_times_total[$__rate_interval]))",
                    "time in the {{bound}}",
                ),
                Query("sum(rate(moard_learner_stale_history_total[$__rate_interval]))", "stale history"),
            ),
        ),
        Panel(
            "Let go",
            "Join entries dropped at a cap, organic interactions that an impression took over later, and records that "
            "retention deleted before they were learned.",
            "suffix:/s",
            (
                Query("sum by (cap) (rate(moard_learner_join_evictions_total[$__rate_interval]))", "cap: {{cap}}"),
                Query("sum(rate(moard_learner_organic_retracted_total[$__rate_interval]))", "organic retracted"),
                Query("sum(rate(moard_learner_gap_records_total[$__rate_interval]))", "gap"),
            ),
        ),
    ),
)

_HISTORIES: Final = Row(
    "Histories and catalogue",
    (
        Panel(
            "Lag of the projector",
            "Records that the history projector has not read, by partition.",
            "suffix:records",
            (Query("sum by (topic, partition) (moard_projector_consumer_lag_records)", _PARTITION),),
        ),
        Panel(
            "Rebalances and rebuilds",
            "Partitions given anew to a projector (once at each start), histories rebuilt because Redis came back "
            "empty, and offset commits that the broker did not take; in the time of one point.",
            "none",
            (
                Query("sum(increase(moard_projector_rebalances_total[$__rate_interval]))", "rebalances"),
                Query("sum(increase(moard_projector_rebuilds_total[$__rate_interval]))", "rebuilds"),
                Query("sum(increase(moard_learner_commit_failures_total[$__rate_interval]))", "commits not taken"),
            ),
        ),
        Panel(
            "Histories written",
            "Visits that the projector wrote, and batches that ingest could not write and left to it.",
            "suffix:/s",
            (
                Query("sum(rate(moard_projector_visits_total[$__rate_interval]))", "visits by the projector"),
                Query("sum(rate(moard_ingest_history_errors_total[$__rate_interval]))", "batches left to it"),
            ),
        ),
        Panel(
            "Catalogue",
            "Contents published from the table or removed with their row, and rows without a usable vector.",
            "suffix:/s",
            (
                Query("sum by (change) (rate(moard_ingest_catalogue_contents_total[$__rate_interval]))", "{{change}}"),
                Query(
                    "sum by (reason) (rate(moard_ingest_vectors_missing_total[$__rate_interval]))", "vector {{reason}}"
                ),
            ),
        ),
        Panel(
            "Removals held back",
            "Contents whose row is gone and that stay, because too many went at once: it may be the wrong database.",
            "suffix:contents",
            (Query("sum(moard_ingest_catalogue_removals_held)", "held"),),
            warn=1,
        ),
    ),
)

STREAMING: Final = Dashboard(
    "moard-streaming",
    "Streaming",
    "How far behind the log the learner is, how old events are at each stage, and what becomes of each.",
    (_LAG, _AGE, _OUTCOMES, _HISTORIES),
)
