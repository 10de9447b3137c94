"""Whether what the learner learns is sound: what to watch, and the alarms (rl.md §10)."""

from math import nan
from typing import Final

from libs.adapters.metric_declarations import Declared

ALARMS: Final = ("divergence", "joiner_broken", "no_advantage", "feedback_loop", "stale_history")

_GAPS_S: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)
_DISCOUNTS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class HealthMetrics:
    """What a learner's detectors look at, and what they found."""

    def __init__(self, declared: Declared) -> None:
        self.alarm = declared.gauge(
            "moard_learner_alarm", "1 while a detector holds; the log names the remedy.", alarm=ALARMS
        )
        self.weights_restored = declared.counter(
            "moard_learner_weights_restored_total", "Times learning diverged and went back to the last good weights."
        )
        self._declare_stories(declared)
        self._declare_slates(declared)

    def _declare_stories(self, declared: Declared) -> None:
        self.share = declared.gauge(
            "moard_learner_row_share",
            "Of the last update's rows whose future is known: those whose story ended, those without consumption.",
            rows=("terminal", "empty"),
        )
        self.continuation = declared.gauge(
            "moard_learner_continuation", "Mean of target minus reward in the last update, in rewards."
        )
        self.advantage_spread = declared.gauge(
            "moard_learner_advantage_spread", "Standard deviation of A within a slate, mean of the last update."
        )
        self.value_bound = declared.gauge("moard_learner_value_bound", "What no true value exceeds in magnitude.")
        self.row_age = declared.gauge(
            "moard_learner_sampled_row_age_rows", "Rows inserted since the sampled ones, median of the last update."
        )
        self.dormant = declared.gauge(
            "moard_learner_dormant_units_share",
            "Hidden units that hardly react to anything any more.",
            layer=("1", "2"),
        )
        self.gaps = declared.histogram(
            "moard_learner_session_gap_seconds",
            "Gap between a user's requests, a sample of each update: tau_s should be near their median.",
            _GAPS_S,
        )
        self.discounts = declared.histogram(
            "moard_learner_discount", "Discount of what follows a request, a sample of each update.", _DISCOUNTS
        )

    def _declare_slates(self, declared: Declared) -> None:
        self.exposure = declared.gauge(
            "moard_learner_exposure",
            "Of the newest slates: distinct contents shown for each one offered; Gini of how often each was shown.",
            nan,
            stat=("coverage", "gini"),
        )
        self.slate_entropy = declared.gauge(
            "moard_learner_slate_entropy_nats", "Entropy of the newest slates by their logged propensities.", nan
        )
        self.slate_propensity = declared.gauge(
            "moard_learner_slate_propensity_min", "Probability of the least likely of the newest slates.", nan
        )
        self.exploration_boost = declared.gauge(
            "moard_learner_exploration_boost", "What serving multiplies temperature and epsilon by; 1 is as set.", 1.0
        )
