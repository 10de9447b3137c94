"""How good the choice head's predictions were: made before, judged after (test, then train; rl.md §7)."""

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64

from libs.rl.slates import Consumption

_BINS: Final = 512
_LARGEST_LOGIT: Final = 10.0  # bins of 0.04 logits between −10 and 10: fine enough for an area under the curve
_GROUPS: Final = 10  # of about equally many predictions: what the calibration error compares


@dataclass(frozen=True, slots=True)
class ChoiceTally:
    """Predictions by bin of their logit: how many, their probabilities' sum, consumptions, and the sum of log losses.

    Additive, so that windows and totals are sums. Logloss is exact; two predictions in one bin count as a tie in the
    area under the curve.
    """

    counts: Float64[np.ndarray, "P"]
    predicted: Float64[np.ndarray, "P"]
    consumed: Float64[np.ndarray, "P"]
    loss: float = 0.0

    @classmethod
    def empty(cls) -> "ChoiceTally":
        """Return a tally of nothing."""
        return cls(np.zeros(_BINS), np.zeros(_BINS), np.zeros(_BINS))

    def __add__(self, other: "ChoiceTally") -> "ChoiceTally":
        return ChoiceTally(
            self.counts + other.counts,
            self.predicted + other.predicted,
            self.consumed + other.consumed,
            self.loss + other.loss,
        )

    @property
    def n(self) -> int:
        """Number of predictions: shown contents."""
        return int(self.counts.sum())

    @property
    def base_rate(self) -> float:
        """Share of shown contents that were consumed; NaN without predictions."""
        return float(self.consumed.sum() / self.n) if self.n else float("nan")

    @property
    def logloss(self) -> float:
        """Mean log loss in nats; NaN without predictions."""
        return self.loss / self.n if self.n else float("nan")

    @property
    def normalised_logloss(self) -> float:
        """Logloss over the entropy of the base rate: 1 for who knows only that rate; NaN where it is 0 or 1."""
        rate = self.base_rate
        if not 0 < rate < 1:
            return float("nan")
        return self.logloss / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))

    @property
    def auc(self) -> float:
        """Probability that a consumed content was ranked above one that was not; NaN without both."""
        rejected = self.counts - self.consumed
        below = np.cumsum(rejected) - rejected
        pairs = self.consumed.sum() * rejected.sum()
        return float((self.consumed * (below + rejected / 2)).sum() / pairs) if pairs else float("nan")

    @property
    def calibration_error(self) -> float:
        """Mean |consumed share − predicted probability| over ten groups of about equally many predictions (ECE)."""
        if not self.n:
            return float("nan")
        before = np.cumsum(self.counts) - self.counts
        group = np.minimum((_GROUPS * (before + self.counts / 2) / self.n).astype(np.int64), _GROUPS - 1)
        off = np.bincount(group, self.consumed - self.predicted, _GROUPS)
        return float(np.abs(off).sum() / self.n)


def choice_probabilities(
    logits: Float64[np.ndarray, "B N"], shown: Bool[np.ndarray, "B N"], consumption: Consumption
) -> Float64[np.ndarray, "B N"]:
    """Return the probability that each shown content is consumed, by the choice model of rl.md §1; 0 elsewhere."""
    if consumption == "multi":
        return np.where(shown, 0.5 * (1 + np.tanh(logits / 2)), 0.0)
    masked = np.where(shown, logits, -np.inf)
    largest = np.maximum(masked.max(axis=1, keepdims=True, initial=-np.inf), 0.0)  # consuming nothing has logit 0
    values = np.exp(masked - largest)
    probabilities: np.ndarray = values / (np.exp(-largest) + values.sum(axis=1, keepdims=True))
    return probabilities


def choice_tally(
    probabilities: Float64[np.ndarray, "B N"], shown: Bool[np.ndarray, "B N"], consumed: Bool[np.ndarray, "B N"]
) -> ChoiceTally:
    """Judge predictions by what was consumed."""
    predicted, outcome = probabilities[shown], consumed[shown].astype(np.float64)
    safe = np.clip(predicted, 1e-12, 1 - 1e-12)
    logits = np.log(safe) - np.log1p(-safe)
    step = 2 * _LARGEST_LOGIT / _BINS
    bins = np.clip(((logits + _LARGEST_LOGIT) / step).astype(np.int64), 0, _BINS - 1)
    loss = -(outcome * np.log(safe) + (1 - outcome) * np.log1p(-safe)).sum()
    found = ChoiceTally.empty()
    for sums, each in ((found.counts, np.ones(len(bins))), (found.predicted, predicted), (found.consumed, outcome)):
        sums += np.bincount(bins, each, _BINS)
    return replace(found, loss=float(loss))
