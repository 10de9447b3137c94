"""What an evaluation says: a number with everything that is needed to believe it, or why there is none (rl.md §7)."""

from dataclasses import dataclass
from typing import Final

LEAST_ESS: Final = 100.0
"""Below this effective sample size a few slates decide: no number is given."""
MEAN_WEIGHT: Final = (0.9, 1.1)
"""Importance weights average 1 when the logged propensities are those of the draw."""
PROPENSITY_TOLERANCE: Final = 1e-4
"""Largest difference between a logged log-propensity and the one that the logged scores give: rounding."""

REFUSALS: Final = ("rows", "ess")
INVALIDITIES: Final = ("mean_weight", "propensities")


@dataclass(frozen=True, slots=True)
class Weights:
    """How evenly the logged slates stand for those of the other policy.

    ``ess`` is Kish's effective sample size (Σw)²/Σw², ``largest_share`` the share of the heaviest slate in Σw.
    """

    n: int
    ess: float
    mean: float
    largest_share: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % bootstrap interval over users."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a policy per request, by one estimator.

    ``value`` is None when the estimate is refused. An invalid one keeps its number for whoever looks for the fault; it
    must not be quoted. ``lift`` is relative to the policy that made the log, with the interval of paired resamples.
    """

    weights: Weights
    value: float | None = None
    interval: Interval | None = None
    lift: float | None = None
    lift_interval: Interval | None = None
    refused: str = ""
    invalid: str = ""

    @property
    def usable(self) -> bool:
        """Whether the number may be quoted."""
        return self.value is not None and not self.invalid


def refusal(weights: Weights) -> str:
    """Return the word of ``REFUSALS`` that forbids a number, empty when there may be one."""
    if weights.n == 0:
        return "rows"
    return "ess" if weights.ess < LEAST_ESS else ""


def invalidity(weights: Weights, propensity_difference: float) -> str:
    """Return the word of ``INVALIDITIES`` that makes a number wrong, empty when nothing speaks against it.

    The mean of few weights is off by chance, so it is judged only where there may be a number at all.
    """
    if propensity_difference > PROPENSITY_TOLERANCE:
        return "propensities"
    if refusal(weights):
        return ""
    low, high = MEAN_WEIGHT
    return "" if low <= weights.mean <= high else "mean_weight"
