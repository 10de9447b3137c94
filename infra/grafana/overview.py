"""Is it learning, on what, how late? The first page to open."""

from typing import Final

from infra.grafana.panels import Dashboard, Panel, Query, Row

_NOW: Final = Row(
    "Now",
    (
        Panel(
            "Parts that answer",
            "1 for each process that Prometheus reaches. Several serving workers answer as one.",
            "none",
            (Query('up{job=~"ingest|learner|serving"}', "{{job}}"),),
            kind="stat",
            width=6,
            words=(("0", "down"), ("1", "up")),
        ),
        Panel(
            "Alerts",
            "Alerts that fire now; each names its remedy and its section of docs/how-to/watch-with-grafana.md.",
            "none",
            (Query('count(ALERTS{alertname=~"Moard.*", alertstate="firing"}) or vector(0)', "firing"),),
            kind="stat",
            width=3,
            warn=1,
        ),
        Panel(
            "Freshness, p95",
            "From a click in the log to the slowest serving worker ranking with weights that a gradient of it changed, "
            "over five minutes. Two seconds are aimed at.",
            "s",
            (Query("moard:freshness_seconds:p95", "p95"),),
            kind="stat",
            width=3,
            warn=5,
        ),
        Panel(
            "Lag",
            "Records that the learner has not read, over all partitions.",
            "suffix:records",
            (Query("sum(moard_learner_consumer_lag_records)", "records"),),
            kind="stat",
            width=3,
        ),
        Panel(
            "Lag in time",
            "How long the oldest record that waits has waited; 0 when none does.",
            "s",
            (Query("max(moard_learner_consumer_lag_seconds)", "behind"),),
            kind="stat",
            width=3,
            warn=30,
        ),
        Panel(
            "Time to drain",
            "Of the slowest partition, at the present rates; infinite while as much arrives as is read.",
            "s",
            (Query("max(topic_partition:moard_learner_drain:seconds)", "to drain"),),
            kind="stat",
            width=3,
            warn=900,
        ),
        Panel(
            "Snapshot age",
            "Of the worker that ranks with the oldest. It grows while nothing is learned, and under a pin.",
            "s",
            (Query("max(moard_serving_snapshot_age_seconds)", "age"),),
            kind="stat",
            width=3,
            warn=120,
        ),
    ),
)

_LEARNING: Final = Row(
    "Is it learning, on what, how late",
    (
        Panel(
            "Freshness",
            "From a click in the log to the slowest serving worker ranking with weights trained on it, over five "
            "minutes. A gap: no click was trained on.",
            "s",
            (Query("moard:freshness_seconds:p50", "p50"), Query("moard:freshness_seconds:p95", "p95")),
            warn=5,
        ),
        Panel(
            "Freshness, all clicks",
            "How many clicks took how long, over all workers.",
            "s",
            (Query("sum by (le) (increase(moard_freshness_seconds_bucket[$__rate_interval]))", "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "Lag by topic",
            "Records that the learner has not read.",
            "suffix:records",
            (Query("sum by (topic) (moard_learner_consumer_lag_records)", "{{topic}}"),),
        ),
        Panel(
            "Events and rankings",
            "What comes in over HTTP and is kept, what the learner reads (also from direct producers), what is ranked.",
            "suffix:/s",
            (
                Query('sum(rate(moard_ingest_events_total{result="accepted"}[$__rate_interval]))', "events accepted"),
                Query("sum(rate(moard_learner_records_consumed_total[$__rate_interval]))", "records read"),
                Query("sum(rate(moard_serving_rankings_total[$__rate_interval]))", "rankings"),
            ),
        ),
        Panel(
            "Interactions for each impression",
            "Interactions that joined an impression, over impressions: of what is shown, how much is answered. A gap: "
            "nothing was shown.",
            "none",
            (
                Query(
                    'sum(rate(moard_learner_interactions_total{outcome="joined"}[5m])) '
                    "/ sum(rate(moard_learner_impressions_total[5m]))",
                    "joined for each impression",
                ),
            ),
        ),
        Panel(
            "Is the policy better than chance",
            "Reward per impression of the policies that served, and what uniform slates would have earned (SN-RIPS, "
            "newest window). A gap: too few impressions to say.",
            "none",
            (
                Query('moard_learner_logged_policy_value{span="window"}', "as served"),
                Query(
                    'moard_learner_policy_value{span="window", policy="uniform", estimator="snrips", stat="value"}',
                    "uniform",
                ),
            ),
        ),
    ),
)

_HEALTH: Final = Row(
    "Health",
    (
        Panel(
            "What goes wrong",
            "Failed answers, dead letters, degraded rankings, lost impressions, rejected snapshots. All at 0 is well.",
            "suffix:/s",
            (
                Query(
                    'sum(rate(moard_http_request_seconds_count{status=~"5.."}[$__rate_interval])) or vector(0)',
                    "answers 5xx",
                ),
                Query("sum(rate(moard_learner_dead_letters_total[$__rate_interval]))", "dead letters"),
                Query("sum(rate(moard_serving_degraded_total[$__rate_interval]))", "degraded"),
                Query("sum(rate(moard_serving_impressions_dropped_total[$__rate_interval]))", "impressions lost"),
                Query("sum(rate(moard_serving_snapshot_rejected_total[$__rate_interval]))", "snapshots rejected"),
            ),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            (Query('process_resident_memory_bytes{job=~"ingest|learner|serving"}', "{{job}} {{worker}}"),),
        ),
        Panel(
            "Processor",
            "Cores that each process keeps busy. One each is all that ingest, a serving worker and training can use.",
            "suffix:cores",
            (
                Query(
                    'rate(process_cpu_seconds_total{job=~"ingest|learner|serving"}[$__rate_interval])',
                    "{{job}} {{worker}}",
                ),
            ),
        ),
    ),
)

OVERVIEW: Final = Dashboard(
    "moard-overview",
    "Overview",
    "Is it learning, on what, how late, and is anything wrong?",
    (_NOW, _LEARNING, _HEALTH),
)
