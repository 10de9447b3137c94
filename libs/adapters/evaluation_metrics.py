"""What evaluation while learning shows: predictions and policies judged by what came (rl.md §7)."""

from math import nan
from typing import Final

from libs.adapters.metric_declarations import Declared

OUTCOMES: Final = ("usable", "external", "greedy", "unlogged", "not_followed")


class EvaluationMetrics:
    """Figures of the newest window and of everything since the start; NaN until there is something to judge."""

    def __init__(self, declared: Declared) -> None:
        spans = ("window", "total")
        which = {"policy": ("uniform", "exploit"), "estimator": ("ips", "snrips")}
        self.impressions = declared.counter(
            "moard_learner_evaluation_impressions_total",
            "Impressions by what off-policy estimates make of them; not_followed: left out among too many users.",
            outcome=OUTCOMES,
        )
        self.rows = declared.gauge(
            "moard_learner_evaluation_rows", "Closed impressions that figures rest on.", span=spans
        )
        self.choice_quality = declared.gauge(
            "moard_learner_choice_quality",
            "Choice predictions of the snapshots that served, judged by what was consumed; NaN without any.",
            nan,
            measure=("logloss", "normalised_logloss", "auc", "calibration_error", "base_rate"),
            span=spans,
        )
        self.value_slope = declared.gauge(
            "moard_learner_value_calibration_slope",
            "Slope of realised returns over predicted values, of requests (u) and consumed contents (q); 1 is right.",
            nan,
            prediction=("u", "q"),
            span=spans,
        )
        self.logged_value = declared.gauge(
            "moard_learner_logged_policy_value", "Reward per impression of the policies that served.", nan, span=spans
        )
        self.policy_value = declared.gauge(
            "moard_learner_policy_value",
            "Estimated reward per impression of another policy, with its 95 % interval by user; NaN when refused.",
            nan,
            **which,
            stat=("value", "low", "high"),
            span=spans,
        )
        self.policy_weights = declared.gauge(
            "moard_learner_policy_weights",
            "Importance weights behind an estimate: effective sample size, mean, share of the largest.",
            **which,
            stat=("ess", "mean", "largest_share"),
            span=spans,
        )
        self.valid = declared.gauge(
            "moard_learner_evaluation_valid",
            "1 while nothing is wrong with the estimates for this reason, 0 when they must not be believed.",
            1.0,
            reason=("mean_weight", "propensities"),
            span=spans,
        )
