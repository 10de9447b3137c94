"""Whether what was promised came: realised discounted returns against the values predicted when serving (rl.md §7)."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

NEGLIGIBLE: Final = 0.01
"""Share of a return that may still be missing when it is judged."""

ENDED: Final = -1
"""Instead of a next row: the story ended here."""
UNKNOWN: Final = -2
"""Instead of a next row: how the story went on is not known (yet, or any more)."""


def lookahead(gamma: float) -> int:
    """Return after how many following requests less than ``NEGLIGIBLE`` of a return can be missing.

    >>> lookahead(0.9), lookahead(0.0)
    (44, 1)
    """
    return 1 if gamma <= 0 else math.ceil(math.log(NEGLIGIBLE) / math.log(gamma))


def returns(
    rewards: Float64[np.ndarray, "B"],
    discounts: Float64[np.ndarray, "B"],
    following: Int64[np.ndarray, "B"],
    steps: int,
) -> tuple[Float64[np.ndarray, "B"], Float64[np.ndarray, "B"]]:
    """Return each row's discounted return, and the share of it that is not known.

    Parameters
    ----------
    rewards
        Σ of the slate's rewards.
    discounts
        γ^clip(Δt/τ, 1, 10) to the next request; ignored where there is none.
    following
        Row of the same user's next request, ``ENDED`` or ``UNKNOWN``.
    steps
        How many requests to look ahead at most.
    """
    known = following >= 0
    onward = np.where(known, following, 0)
    discount = np.where(known, discounts, 0.0)
    total = rewards.copy()
    missing = np.where(following == ENDED, 0.0, 1.0)
    for _ in range(steps):
        total = rewards + discount * total[onward]
        missing = np.where(known, discount * missing[onward], missing)
    return total, missing


@dataclass(frozen=True, slots=True)
class Line:
    """Sums of a least-squares line of realised over predicted values; additive."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    @classmethod
    def through(cls, predicted: Float64[np.ndarray, "B"], realised: Float64[np.ndarray, "B"]) -> "Line":
        """Return the sums of these points."""
        sums = (predicted.sum(), realised.sum(), (predicted * predicted).sum(), (predicted * realised).sum())
        return cls(float(len(predicted)), *map(float, sums))

    def __add__(self, other: "Line") -> "Line":
        return Line(self.n + other.n, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy)

    @property
    def slope(self) -> float:
        """1 for values that mean what they say; NaN while all predictions are alike."""
        spread = self.n * self.xx - self.x**2
        if self.n < 2 or spread <= 1e-9 * self.n * self.xx:
            return float("nan")
        return (self.n * self.xy - self.x * self.y) / spread


@dataclass(frozen=True, slots=True)
class Tenth:
    """One tenth of the rows by predicted value."""

    n: int
    predicted: float
    realised: float


def tenths(predicted: Float64[np.ndarray, "B"], realised: Float64[np.ndarray, "B"]) -> list[Tenth]:
    """Return mean prediction and mean return by tenths of the prediction, lowest first."""
    order = np.argsort(predicted, kind="stable")
    parts = (part for part in np.array_split(order, 10) if len(part))
    return [Tenth(len(part), float(predicted[part].mean()), float(realised[part].mean())) for part in parts]
