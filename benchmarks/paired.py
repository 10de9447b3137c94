"""Is one ranker better than another on the same requests? An interval of the difference, by user."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference and the bounds that hold it in 95 of 100 samples of users."""

    difference: float
    low: float
    high: float


def paired_interval(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    user_ids: NDArray[np.int64],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return by how much ``ours`` earns more per request, with the 95 % percentile interval of a bootstrap by user.

    Users are resampled, each with all requests of his: requests of one user are not independent, and an interval that
    took them to be would be too narrow. Both rankers answered the same requests, so that what makes a request easy
    cancels out before anything varies.

    >>> paired_interval(np.array([2.0, 1.0, 3.0]), np.array([1.0, 0.0, 2.0]), np.array([7, 7, 8]))
    Interval(difference=1.0, low=1.0, high=1.0)
    """
    users, owner = np.unique(user_ids, return_inverse=True)
    gains = np.bincount(owner, ours - theirs)
    requests = np.bincount(owner)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples)
    resampled = (weights @ gains) / (weights @ requests)
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return Interval(float(gains.sum() / requests.sum()), low, high)
