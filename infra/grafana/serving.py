"""From weights to answers: rate, errors, latency, snapshots in use, what was done without."""

from typing import Final

from infra.grafana.panels import Dashboard, Panel, Query, Row

_WORKER: Final = "{{instance}} {{worker}}"
_COUNT: Final = "moard_http_request_seconds_count"


def _latency(share: float, job: str) -> str:
    return (
        f"histogram_quantile({share}, sum by (route, le) (rate(moard_http_request_seconds_bucket"
        f'{{job="{job}", route=~"/api/.*"}}[$__rate_interval])))'
    )


_ANSWERS: Final = Row(
    "Answers of serving",
    (
        Panel(
            "Requests",
            "By route, over all workers.",
            "reqps",
            (Query(f'sum by (route) (rate({_COUNT}{{job="serving"}}[$__rate_interval]))', "{{route}}"),),
        ),
        Panel(
            "Errors",
            "4xx are the caller's (each answer names the field), 5xx are ours: 503 says what is away.",
            "reqps",
            (
                Query(f'sum(rate({_COUNT}{{job="serving", status=~"4.."}}[$__rate_interval])) or vector(0)', "4xx"),
                Query(f'sum(rate({_COUNT}{{job="serving", status=~"5.."}}[$__rate_interval])) or vector(0)', "5xx"),
            ),
        ),
        Panel(
            "Share of failed answers",
            "5xx over all, in five minutes, by service. A gap: nobody asked.",
            "percentunit",
            (Query("moard:serving_answers_failed:ratio5m", "{{job}}"),),
            warn=0.01,
        ),
        Panel(
            "Latency, p50",
            "By route. A gap: nobody asked.",
            "s",
            (Query(_latency(0.5, "serving"), "{{route}}"),),
        ),
        Panel(
            "Latency, p99",
            "By route. 10 ms for 100 candidates is aimed at.",
            "s",
            (Query(_latency(0.99, "serving"), "{{route}}"),),
        ),
        Panel(
            "Turned away",
            "Requests refused before their body was decoded, by reason, at both services.",
            "reqps",
            (Query("sum by (reason) (rate(moard_http_refused_total[$__rate_interval]))", "{{reason}}"),),
        ),
    ),
)

_RANKINGS: Final = Row(
    "Rankings",
    (
        Panel(
            "Rankings by policy and arm",
            "cold: no snapshot has come yet. uniform: the arm that explores.",
            "suffix:/s",
            (
                Query(
                    "sum by (policy, arm) (rate(moard_serving_rankings_total[$__rate_interval]))", "{{policy}} {{arm}}"
                ),
            ),
        ),
        Panel(
            "Degraded",
            "Answers given without one of the parts: history and snapshot (Redis), catalogue and users (database), "
            "impression (broker: that slate teaches nothing).",
            "suffix:/s",
            (Query("sum by (reason) (rate(moard_serving_degraded_total[$__rate_interval]))", "{{reason}}"),),
        ),
        Panel(
            "Proposed",
            "Where candidates came from, for requests that named none.",
            "suffix:contents/s",
            (Query("sum by (source) (rate(moard_serving_proposed_total[$__rate_interval]))", "{{source}}"),),
        ),
        Panel(
            "Impressions",
            "Acknowledged by the broker, and lost at the full buffer or the deadline.",
            "suffix:/s",
            (
                Query("sum(rate(moard_serving_impressions_total[$__rate_interval]))", "acknowledged"),
                Query("sum(rate(moard_serving_impressions_dropped_total[$__rate_interval]))", "lost"),
            ),
        ),
        Panel(
            "Contents",
            "In each worker's matrix.",
            "suffix:contents",
            (Query("moard_serving_contents", _WORKER),),
        ),
        Panel(
            "Without a vector",
            "Contents met without a usable vector; their text says nothing until one comes.",
            "suffix:/s",
            (Query("sum by (reason) (rate(moard_serving_vectors_missing_total[$__rate_interval]))", "{{reason}}"),),
        ),
    ),
)

_SNAPSHOTS: Final = Row(
    "Snapshots in use",
    (
        Panel(
            "Snapshot age",
            "Now minus creation of what each worker ranks with. It grows while nothing is learned, and under a pin.",
            "s",
            (Query("moard_serving_snapshot_age_seconds", _WORKER),),
            warn=120,
        ),
        Panel(
            "Behind the learner",
            "Version that the learner published last minus the one each worker ranks with.",
            "s",
            (Query("moard:serving_snapshot_behind:seconds", _WORKER),),
            warn=30,
        ),
        Panel(
            "Version skew",
            "Between the newest and the oldest version that any worker ranks with: how unlike two answers can be.",
            "s",
            (
                Query(
                    "(max(moard_serving_snapshot_version) - min(moard_serving_snapshot_version)) / 1000",
                    "between workers",
                ),
            ),
        ),
        Panel(
            "Swaps",
            "Snapshots swapped in.",
            "suffix:/s",
            (Query("sum by (instance, worker) (rate(moard_serving_snapshot_swaps_total[$__rate_interval]))", _WORKER),),
        ),
        Panel(
            "Rejected",
            "Snapshots that failed a check, by reason; the one before goes on ranking. In the time of one point.",
            "none",
            (
                Query(
                    "sum by (reason) (increase(moard_serving_snapshot_rejected_total[$__rate_interval]))", "{{reason}}"
                ),
            ),
            warn=1,
        ),
        Panel(
            "Pinned",
            "1 where a version is pinned and newer ones are not taken.",
            "none",
            (Query("moard_serving_pinned_version > bool 0", _WORKER),),
        ),
    ),
)

_PROCESSES: Final = Row(
    "Workers, and ingest",
    (
        Panel(
            "Workers that are ready",
            "Of each serving process; one without a supervisor counts as one.",
            "none",
            (
                Query(
                    "sum by (instance) (moard_serving_worker_ready) "
                    'or on (instance) sum by (instance) (up{job="serving"})',
                    "{{instance}}",
                ),
            ),
            width=6,
        ),
        Panel(
            "Workers replaced",
            "Those that ended by themselves, and rolling restarts by result; in the time of one point.",
            "none",
            (
                Query("sum(increase(moard_serving_worker_restarts_total[$__rate_interval])) or vector(0)", "died"),
                Query(
                    'sum(increase(moard_serving_rolling_restarts_total{result="done"}[$__rate_interval])) or vector(0)',
                    "rolling, done",
                ),
                Query(
                    'sum(increase(moard_serving_rolling_restarts_total{result="abandoned"}[$__rate_interval])) '
                    "or vector(0)",
                    "rolling, abandoned",
                ),
            ),
            width=6,
        ),
        Panel(
            "Requests to ingest",
            "By route and status.",
            "reqps",
            (
                Query(
                    f'sum by (route, status) (rate({_COUNT}{{job="ingest"}}[$__rate_interval]))', "{{route}} {{status}}"
                ),
            ),
            width=6,
        ),
        Panel(
            "Latency of ingest, p99",
            "By route; with the broker's acknowledgement.",
            "s",
            (Query(_latency(0.99, "ingest"), "{{route}}"),),
            width=6,
        ),
    ),
)

SERVING: Final = Dashboard(
    "moard-serving",
    "Serving",
    "What is answered, how fast, with which weights, and what had to be done without.",
    (_ANSWERS, _RANKINGS, _SNAPSHOTS, _PROCESSES),
)
