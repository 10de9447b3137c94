"""What slates show, as the buffer logged it: how evenly, how many contents, how surely (rl.md §10, feedback loop)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from libs.rl.action_space import PADDING
from libs.rl.replay import Replay, Status


@dataclass(frozen=True, slots=True)
class Exposure:
    """Of a window of slates: ``coverage`` distinct contents shown for each one offered, ``gini`` of how often each
    offered one was shown (0 evenly, 1 always the same), ``entropy`` of the slates in nats by their own
    log-propensities, ``propensity_min`` of the least likely slate.
    """  # noqa: D205 - one list

    slates: int
    coverage: float
    gini: float
    entropy: float
    propensity_min: float


def exposure(replay: Replay, slots: Int64[np.ndarray, "B"]) -> Exposure:
    """Return the exposure of the impressions in these slots that logged how likely they were."""
    columns = replay.columns
    status = columns["status"][slots]
    impressions = slots[(status == Status.OPEN) | (status == Status.ENDED) | (status == Status.CONTINUED)]
    logged = np.isfinite(columns["log_propensity"][impressions, 0])
    impressions = impressions[logged]
    if not len(impressions):
        return Exposure(0, 0.0, 0.0, 0.0, 0.0)
    shown = columns["slate"][impressions]
    times = np.bincount(shown[shown != PADDING].ravel())
    offered = np.union1d(columns["candidates"][impressions].ravel(), shown.ravel())
    offered = offered[offered != PADDING]
    each = np.pad(times, (0, max(0, int(offered.max()) + 1 - len(times))))[offered]
    whole = np.nanmin(columns["log_propensity"][impressions], axis=1)  # prefixes only get less likely: the slate's own
    return Exposure(
        slates=len(impressions),
        coverage=float((each > 0).mean()),
        gini=gini(each),
        entropy=float(-whole.mean()),
        propensity_min=float(np.exp(whole.min())),
    )


def newest(replay: Replay, count: int, skip: int = 0) -> Int64[np.ndarray, "B"]:
    """Return the slots of up to ``count`` rows, the newest but for ``skip`` newer ones."""
    end = replay.inserted - skip
    begin = max(end - count, replay.inserted - replay.capacity, 0)
    return np.arange(begin, max(end, begin)) % replay.capacity


def gini(times: Int64[np.ndarray, "M"]) -> float:
    """Return Gini's coefficient of non-negative counts.

    >>> gini(np.array([3, 3, 3]))
    0.0
    >>> gini(np.array([0, 0, 0, 8]))
    0.75
    """
    ordered = np.sort(times).astype(np.float64)
    total, count = ordered.sum(), len(ordered)
    if total == 0:
        return 0.0
    return float(2 * (np.arange(1, count + 1) @ ordered) / (count * total) - (count + 1) / count)
