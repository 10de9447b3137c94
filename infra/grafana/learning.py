"""Inside the learner: losses, values, replay, calibration, off-policy estimates, exploration."""

from typing import Final

from infra.grafana.panels import Dashboard, Panel, Query, Row


def _estimate(policy: str, stat: str) -> str:
    return f'moard_learner_policy_value{{span="window", estimator="snrips", policy="{policy}", stat="{stat}"}}'


def _compared(policy: str, means: str) -> Panel:
    return Panel(
        f"Served against {policy}",
        f"Reward per impression of the policies that served, and the estimate (SN-RIPS, 95 % interval by user) for "
        f"{means}. A gap: fewer than 100 effective impressions, nothing can be said.",
        "none",
        (
            Query('moard_learner_logged_policy_value{span="window"}', "as served"),
            Query(_estimate(policy, "value"), policy),
            Query(_estimate(policy, "low"), "low"),
            Query(_estimate(policy, "high"), "high"),
        ),
    )


_UPDATE_SECONDS: Final = "sum by (le) (rate(moard_learner_update_seconds_bucket[$__rate_interval]))"

_UPDATES: Final = Row(
    "Updates",
    (
        Panel(
            "Loss by part",
            "Of the last update: U, N, A values, choice, organic; see docs/learning.md. It need not fall for ever: "
            "targets move, and harder rows come.",
            "none",
            (Query("max by (part) (moard_learner_loss)", "{{part}}"),),
        ),
        Panel(
            "Q",
            "Mean and largest magnitude of what the last update valued, and the bound that no true value exceeds. "
            "Beyond 1.1 of the bound learning goes back to the last good weights.",
            "none",
            (
                Query("max by (stat) (moard_learner_q_value)", "{{stat}}"),
                Query("max(moard_learner_value_bound)", "bound"),
            ),
        ),
        Panel(
            "TD error and gradient",
            "|TD error| of the last update's rows, and the norm of the gradient before it was clipped.",
            "none",
            (
                Query("max by (quantile) (moard_learner_td_error)", "|TD| at {{quantile}}"),
                Query("max(moard_learner_gradient_norm)", "gradient norm"),
            ),
        ),
        Panel(
            "Updates",
            "Gradient steps taken, and thrown away because a gradient was not finite.",
            "suffix:/s",
            (
                Query("sum(rate(moard_learner_updates_total[$__rate_interval]))", "taken"),
                Query("sum(rate(moard_learner_updates_not_finite_total[$__rate_interval]))", "not finite"),
            ),
        ),
        Panel(
            "Time of an update",
            "On the one training thread.",
            "s",
            (
                Query(f"histogram_quantile(0.5, {_UPDATE_SECONDS})", "p50"),
                Query(f"histogram_quantile(0.99, {_UPDATE_SECONDS})", "p99"),
            ),
        ),
        Panel(
            "Alarms",
            "1 while a detector holds; the log names the remedy in learning.alarm.",
            "none",
            (
                Query("max by (alarm) (moard_learner_alarm)", "{{alarm}}"),
                Query("sum(increase(moard_learner_weights_restored_total[$__rate_interval]))", "weights restored"),
            ),
            warn=1,
        ),
    ),
)

_REPLAY: Final = Row(
    "Replay",
    (
        Panel(
            "Rows",
            "Rows in the replay buffer; a row is one impression, or one organic interaction.",
            "suffix:rows",
            (Query("sum(moard_learner_replay_rows)", "rows"),),
            width=6,
        ),
        Panel(
            "Replay ratio",
            "Samples drawn for each row inserted, over five minutes; MOARD_LEARNER_REPLAY_RATIO caps it, a backlog "
            "lowers it. A gap: no row was inserted.",
            "none",
            (
                Query(
                    "sum(rate(moard_learner_samples_total[5m])) / sum(rate(moard_learner_rows_inserted_total[5m]))",
                    "samples for each row",
                ),
            ),
            width=6,
        ),
        Panel(
            "Age of sampled rows",
            "Rows inserted since those of the last update, median.",
            "suffix:rows",
            (Query("max(moard_learner_sampled_row_age_rows)", "median"),),
            width=6,
        ),
        Panel(
            "Age of sampled rows, in time",
            "The same over the present rate of rows. A gap: no row was inserted.",
            "s",
            (
                Query(
                    "max(moard_learner_sampled_row_age_rows) / sum(rate(moard_learner_rows_inserted_total[5m]))",
                    "median",
                ),
            ),
            width=6,
        ),
        Panel(
            "What rows are like",
            "Of the last update's rows whose future is known: the share whose story ended there, and that consumed "
            "nothing. All ended: user ids, clocks or horizon are wrong.",
            "percentunit",
            (Query("max by (rows) (moard_learner_row_share)", "{{rows}}"),),
            width=6,
        ),
        Panel(
            "Continuation and advantage",
            "Mean of target minus reward, and the spread of A within a slate. Both 0: nothing but clicks is learned.",
            "none",
            (
                Query("max(moard_learner_continuation)", "continuation"),
                Query("max(moard_learner_advantage_spread)", "spread of A"),
            ),
            width=6,
        ),
        Panel(
            "Gaps and discounts",
            "Median gap between a user's requests (MOARD_LEARNER_TAU_S should be near it), over five minutes.",
            "s",
            (
                Query(
                    "histogram_quantile(0.5, sum by (le) (rate(moard_learner_session_gap_seconds_bucket[5m])))",
                    "median gap",
                ),
            ),
            width=6,
        ),
        Panel(
            "Discount and dormant units",
            "Mean discount of what follows a request, and the share of hidden units that hardly react to anything.",
            "percentunit",
            (
                Query(
                    "sum(rate(moard_learner_discount_sum[5m])) / sum(rate(moard_learner_discount_count[5m]))",
                    "mean discount",
                ),
                Query("max by (layer) (moard_learner_dormant_units_share)", "dormant, layer {{layer}}"),
            ),
            width=6,
        ),
    ),
)

_TRUTH: Final = Row(
    "Calibration and off-policy estimates",
    (
        Panel(
            "Choice predictions",
            "Judged by what was consumed, with the snapshot that served (newest window). Normalised logloss below 1 "
            "beats the base rate; AUC 0.5 is chance; calibration error 0 is right.",
            "none",
            (
                Query(
                    "max by (measure) (moard_learner_choice_quality"
                    '{span="window", measure=~"normalised_logloss|auc|calibration_error|base_rate"})',
                    "{{measure}}",
                ),
            ),
        ),
        Panel(
            "Value calibration",
            "Slope of realised returns over predicted values, of requests (u) and consumed contents (q). 1 is right, "
            "below 1 values promise too much.",
            "none",
            (Query('max by (prediction) (moard_learner_value_calibration_slope{span="window"})', "{{prediction}}"),),
        ),
        Panel(
            "Are estimates valid",
            "0 while estimates must not be believed, by reason.",
            "none",
            (Query('min by (reason) (moard_learner_evaluation_valid{span="window"})', "{{reason}}"),),
        ),
        _compared("uniform", "slates drawn uniformly"),
        _compared("exploit", "the best slate always"),
        Panel(
            "Weights behind the estimates",
            "Effective sample size over rows, mean weight (1 is right) and share of the largest weight.",
            "none",
            (
                Query(
                    "max by (policy, stat) (moard_learner_policy_weights"
                    '{span="window", estimator="snrips", stat=~"mean|largest_share"})',
                    "{{policy}} {{stat}}",
                ),
                Query(
                    'max by (policy) (moard_learner_policy_weights{span="window", estimator="snrips", stat="ess"}) '
                    '/ on () group_left () max(moard_learner_evaluation_rows{span="window"})',
                    "{{policy}} effective share",
                ),
            ),
        ),
        Panel(
            "What estimates rest on",
            "Impressions by what estimates make of them: greedy ones and those of other rankers have no propensities.",
            "suffix:/s",
            (
                Query(
                    "sum by (outcome) (rate(moard_learner_evaluation_impressions_total[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            "Rows of the window",
            "Closed impressions that the figures above rest on.",
            "suffix:rows",
            (Query("max by (span) (moard_learner_evaluation_rows)", "{{span}}"),),
        ),
    ),
)

_EXPLORATION: Final = Row(
    "Exploration",
    (
        Panel(
            "Entropy of slates",
            "By their logged propensities; falling steadily: rankings repeat themselves.",
            "suffix:nats",
            (Query("max(moard_learner_slate_entropy_nats)", "entropy"),),
        ),
        Panel(
            "Exposure",
            "Of the newest slates: distinct contents shown for each one offered, and how unevenly (Gini).",
            "percentunit",
            (Query("max by (stat) (moard_learner_exposure)", "{{stat}}"),),
        ),
        Panel(
            "Exploration",
            "Share of rankings drawn uniformly (over five minutes), what serving multiplies its exploration by, and "
            "the probability of the least likely slate.",
            "none",
            (
                Query(
                    'sum(rate(moard_serving_rankings_total{arm="uniform"}[5m])) '
                    "/ sum(rate(moard_serving_rankings_total[5m]))",
                    "uniform share",
                ),
                Query("max(moard_learner_exploration_boost)", "boost"),
                Query("min(moard_learner_slate_propensity_min)", "least propensity"),
            ),
        ),
    ),
)

_PUBLISHED: Final = Row(
    "Checkpoints and snapshots",
    (
        Panel(
            "Checkpoint age",
            "Now minus the last complete checkpoint: what a crash would learn again.",
            "s",
            (Query("max(moard_learner_checkpoint_age_seconds)", "age"),),
            warn=300,
            width=6,
        ),
        Panel(
            "Time of a checkpoint",
            "What the last one took; it grows with what changed since the one before, not with the rows.",
            "s",
            (Query("max(moard_learner_checkpoint_duration_seconds)", "duration"),),
            width=6,
        ),
        Panel(
            "Snapshots",
            "Published, and the time to take and publish one.",
            "none",
            (
                Query("sum(rate(moard_learner_snapshot_seconds_count[$__rate_interval]))", "published per second"),
                Query(
                    "histogram_quantile(0.95, sum by (le) (rate(moard_learner_snapshot_seconds_bucket[5m])))",
                    "p95 of publishing, seconds",
                ),
            ),
            width=6,
        ),
        Panel(
            "Failures",
            "Checkpoints the disk refused, snapshots the store did not take in time, and those refused because another "
            "learner has taken over; in the time of one point.",
            "none",
            (
                Query("sum(increase(moard_learner_checkpoint_failures_total[$__rate_interval]))", "checkpoints"),
                Query("sum(increase(moard_learner_snapshot_failures_total[$__rate_interval]))", "snapshots"),
                Query("sum(increase(moard_learner_snapshots_refused_total[$__rate_interval]))", "fenced"),
            ),
            warn=1,
            width=6,
        ),
    ),
)

LEARNING: Final = Dashboard(
    "moard-learning",
    "Learning",
    "What the learner learns, whether it is sound, and whether the policy is getting better.",
    (_UPDATES, _REPLAY, _TRUTH, _EXPLORATION, _PUBLISHED),
)
