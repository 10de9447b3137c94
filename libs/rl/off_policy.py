"""What a policy is worth per request, estimated from the slates of another one (rl.md §7).

Everything is a ratio of sums over rows. A ``Tally`` keeps these sums by group of users, so that windows and totals are
additions and a bootstrap over users draws groups instead of rows.

====== ==================================================================================================
ips    inverse propensity: each slate's reward times p_target(slate)/p_logged(slate) (Horvitz & Thompson, 1952)
snips  the same over the sum of weights (Swaminathan & Joachims, 2015)
rips   cascade: the reward of position k times the weight of the **prefix** up to k (McInerney et al., 2020,
       arXiv:2007.12986): right when what is further down does not change whether position k is consumed
snrips rips, self-normalised for each position
dr     doubly robust: a reward model's expectation, corrected by weighted residuals (Dudík et al., 2011)
====== ==================================================================================================
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from libs.rl.evaluation import Estimate, Interval, Weights, invalidity, refusal

RESAMPLES: Final = 1_000
_INTERVAL: Final = (2.5, 97.5)  # percentiles
_LARGEST_LOG_WEIGHT: Final = 100.0  # such a weight is a refusal anyway; its square must not overflow

_ROW_SUMS: Final = (
    ("rows", "reward", "weight", "weight_square", "weighted", "prefix", "prefix_square", "cascade", "doubly")
)  # fmt: skip
_POSITION_SUMS: Final = ("shown", "weight_at", "weighted_at")


@dataclass(frozen=True, slots=True)
class RewardModel:
    """What a model expects of each request: reward of the slate that was shown, and of one drawn by the target."""

    logged: Float64[np.ndarray, "B"]
    target: Float64[np.ndarray, "B"]


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over rows, by group of users, and the largest weight of a slate and of its prefixes on average."""

    sums: Float64[np.ndarray, "G M"]
    largest: Float64[np.ndarray, "2"]

    @classmethod
    def empty(cls, groups: int, size: int) -> "Tally":
        """Return a tally of nothing, for slates of up to ``size`` positions."""
        return cls(np.zeros((groups, len(_ROW_SUMS) + len(_POSITION_SUMS) * size)), np.zeros(2))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.sums + other.sums, np.maximum(self.largest, other.largest))

    @property
    def rows(self) -> int:
        """Number of slates."""
        return int(self.sums[:, 0].sum())

    @property
    def logged_value(self) -> float:
        """Reward per request under the policy that made the log; NaN without rows."""
        return float(self.sums[:, 1].sum() / self.rows) if self.rows else float("nan")


def tally(
    rewards: Float64[np.ndarray, "B N"],
    shown: Bool[np.ndarray, "B N"],
    log_weights: Float64[np.ndarray, "B N"],
    groups: Int64[np.ndarray, "B"],
    group_count: int,
    model: RewardModel | None = None,
) -> Tally:
    """Sum up logged slates.

    Parameters
    ----------
    rewards
        Reward of each position, 0 beyond the slate.
    shown
        Where there is a content: slates are filled from the left.
    log_weights
        log p_target − log p_logged of each **prefix**.
    groups
        Group of each row's user, below ``group_count``: the bootstrap's unit.
    """
    rewards, weights = np.where(shown, rewards, 0.0), np.exp(np.minimum(log_weights, _LARGEST_LOG_WEIGHT)) * shown
    rows = len(rewards)
    sizes = shown.sum(axis=1)
    reward = rewards.sum(axis=1)
    weight = weights[np.arange(rows), np.maximum(sizes - 1, 0)] if rows else np.zeros(0)
    prefix = weights.sum(axis=1) / np.maximum(sizes, 1)
    doubly = np.zeros(rows) if model is None else model.target + weight * (reward - model.logged)
    cascade = weights * rewards
    by_row = [np.ones(rows), reward, weight, weight**2, weight * reward, prefix, prefix**2, cascade.sum(axis=1), doubly]
    columns = np.concatenate([np.stack(by_row, axis=1), shown.astype(np.float64), weights, cascade], axis=1)
    sums = np.zeros((group_count, columns.shape[1]))
    np.add.at(sums, groups, columns)
    return Tally(sums, np.array([weight.max(initial=0.0), prefix.max(initial=0.0)]))


def estimates(
    counted: Tally,
    names: tuple[str, ...] = ("ips", "snips", "rips", "snrips"),
    propensity_difference: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return each estimator's number with interval and weights, or the reason why there is none.

    Parameters
    ----------
    names
        Of ``ESTIMATORS``; ``dr`` needs a tally made with a reward model.
    propensity_difference
        Largest difference between logged and recomputed log-propensities.
    """
    filled = counted.sums[counted.sums[:, 0] > 0]
    drawn = _resampled(filled, resamples, seed)
    total = filled.sum(axis=0)
    return {name: _estimate(name, total, drawn, counted.largest, propensity_difference) for name in names}


def _estimate(
    name: str,
    total: Float64[np.ndarray, "M"],
    drawn: Float64[np.ndarray, "R M"],
    largest: Float64[np.ndarray, "2"],
    propensity_difference: float,
) -> Estimate:
    weights = _weights(name, total, largest)
    invalid = invalidity(weights, propensity_difference)
    if reason := refusal(weights):
        return Estimate(weights, refused=reason, invalid=invalid)
    by_total, by_draw = _Sums(total[None]), _Sums(drawn)
    value, values = float(ESTIMATORS[name](by_total)[0]), ESTIMATORS[name](by_draw)
    logged, loggeds = float(_logged(by_total)[0]), _logged(by_draw)
    comparable = logged != 0 and bool((loggeds != 0).all())
    return Estimate(
        weights,
        value,
        _interval(values),
        value / logged - 1 if logged else None,
        _interval(values / loggeds - 1) if comparable else None,
        invalid=invalid,
    )


class _Sums:
    """Names for the columns of totals; the last axis is dropped for sums by row, the positions' for others."""

    def __init__(self, totals: Float64[np.ndarray, "R M"]) -> None:
        self._totals = totals

    def __getitem__(self, name: str) -> np.ndarray:
        if name in _ROW_SUMS:
            column: np.ndarray = self._totals[:, _ROW_SUMS.index(name)]
            return column
        size = (self._totals.shape[1] - len(_ROW_SUMS)) // len(_POSITION_SUMS)
        start = len(_ROW_SUMS) + size * _POSITION_SUMS.index(name)
        block: np.ndarray = self._totals[:, start : start + size]
        return block


def _logged(sums: _Sums) -> np.ndarray:
    return _ratio(sums["reward"], sums["rows"])


def _self_normalised_cascade(sums: _Sums) -> np.ndarray:
    by_position = sums["shown"] * _ratio(sums["weighted_at"], sums["weight_at"])
    return _ratio(by_position.sum(axis=1), sums["rows"])


ESTIMATORS: Final[Mapping[str, Callable[[_Sums], np.ndarray]]] = {
    "ips": lambda sums: _ratio(sums["weighted"], sums["rows"]),
    "snips": lambda sums: _ratio(sums["weighted"], sums["weight"]),
    "rips": lambda sums: _ratio(sums["cascade"], sums["rows"]),
    "snrips": _self_normalised_cascade,
    "dr": lambda sums: _ratio(sums["doubly"], sums["rows"]),
}
_CASCADE: Final = ("rips", "snrips")


def _weights(name: str, total: Float64[np.ndarray, "M"], largest: Float64[np.ndarray, "2"]) -> Weights:
    """Describe the weights an estimator uses: of whole slates, or of a slate's prefixes on average."""
    cascade = name in _CASCADE
    sums, kind = _Sums(total[None]), "prefix" if cascade else "weight"
    rows, weight, square = (float(sums[each][0]) for each in ("rows", kind, f"{kind}_square"))
    if not weight:
        return Weights(int(rows), 0.0, 0.0, 0.0)
    return Weights(int(rows), weight**2 / square, weight / rows, float(largest[int(cascade)]) / weight)


def _resampled(sums: Float64[np.ndarray, "G M"], resamples: int, seed: int) -> Float64[np.ndarray, "R M"]:
    """Return the totals of so many draws of the groups, with replacement."""
    groups = len(sums)
    if groups < 2 or not resamples:
        return np.zeros((0, sums.shape[1]))
    rng = np.random.default_rng(seed)
    at_once = max(1, 4_000_000 // groups)  # 32 MB of counts
    drawn = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        counts = [np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(size)]
        drawn.append(np.array(counts, np.float64) @ sums)
    return np.concatenate(drawn)


def _interval(values: Float64[np.ndarray, "R"]) -> Interval | None:
    """Return where 95 % of the resamples lie; None when one group leaves nothing to resample."""
    if not len(values):
        return None
    low, high = np.percentile(values, _INTERVAL)
    return Interval(float(low), float(high))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(above, below, out=np.zeros(below.shape), where=below != 0)
    return quotient
