"""Chocolate or kale: users whom tempting contents please now and wear out (RecSim's long-term satisfaction).

Ie et al., 2019, arXiv:1909.04847. A content is a number c between kale (0) and chocolate (1). What a user consumes
moves a hidden net positive exposure, which decides how much engagement the next content brings:

    engagement ~ lognormal((5c + 4(1 - c)) · SAT, 1)      SAT = σ(0.2 · NPE)
    NPE' = 0.7 · NPE - 2(c - 0.5) + N(0, 0.05)            NPE at first ~ U(-0.5, 0.5) / 0.3

RecSim's own sensitivity of 0.01 instead of 0.2 makes the greediest policy the best one: nothing to learn.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

STEPS: Final = 60
"""Contents a user consumes before the story ends."""

CANDIDATES: Final = 10
"""Contents offered at each step, c uniform."""

CHOCOLATE, KALE, SPREAD = 5.0, 4.0, 1.0
SENSITIVITY: Final = 0.2
MEMORY: Final = 0.7
NOISE: Final = 0.05
FIRST: Final = 0.5 / (1 - MEMORY)

Floats: TypeAlias = NDArray[np.float64]
Policy: TypeAlias = Callable[[Floats, np.random.Generator], NDArray[np.int64]]
"""Returns the position chosen of the candidates of each user, ``[users, CANDIDATES]``."""

_GRID: Final = np.linspace(-4.0, 4.0, 401)  # NPE stays within 1/0.3 but for noise
_OFFERS: Final = (np.arange(200) + 0.5) / 200


def first_exposure(users: int, rng: np.random.Generator) -> Floats:
    """Return the NPE of users who have not consumed anything."""
    return rng.uniform(-FIRST, FIRST, users)


def engagement_log_mean(npe: Floats, c: Floats) -> Floats:
    """Return the mean of the logarithm of the engagement."""
    mean: Floats = (CHOCOLATE * c + KALE * (1 - c)) / (1 + np.exp(-SENSITIVITY * npe))
    return mean


def expected_engagement(npe: Floats, c: Floats) -> Floats:
    """Return what consuming ``c`` is worth on average."""
    expected: Floats = np.exp(engagement_log_mean(npe, c) + SPREAD**2 / 2)
    return expected


def engagement(npe: Floats, c: Floats, rng: np.random.Generator) -> Floats:
    """Return one draw of what consuming ``c`` brings."""
    return rng.lognormal(engagement_log_mean(npe, c), SPREAD)


def next_exposure(npe: Floats, c: Floats, rng: np.random.Generator) -> Floats:
    """Return the NPE after consuming ``c``."""
    return MEMORY * npe - 2 * (c - 0.5) + rng.normal(0, NOISE, len(npe))


def most_chocolate(offered: Floats, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG001
    """Choose what pleases most now: the best that anybody does who does not look ahead."""
    position: NDArray[np.int64] = offered.argmax(axis=1)
    return position


def most_kale(offered: Floats, rng: np.random.Generator) -> NDArray[np.int64]:  # noqa: ARG001
    """Choose what is healthiest, always."""
    position: NDArray[np.int64] = offered.argmin(axis=1)
    return position


def anything(offered: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose at random."""
    return rng.integers(0, offered.shape[1], len(offered))


def returns(policy: Policy, users: int, rng: np.random.Generator) -> Floats:
    """Return the engagement that each of many users is expected to bring over all steps under a policy."""
    npe, total = first_exposure(users, rng), np.zeros(users)
    for _ in range(STEPS):
        offered = rng.random((users, CANDIDATES))
        c = offered[np.arange(users), policy(offered, rng)]
        total += expected_engagement(npe, c)
        npe = next_exposure(npe, c, rng)
    return total


def optimum() -> float:
    """Return the largest return any policy reaches that sees NPE and the step, by dynamic programming.

    Backwards over the steps: the value of an NPE is the expected largest, over the candidates, of engagement plus value
    of the NPE that follows. NPE and c lie on grids, noise on Gauss-Hermite points.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    now = expected_engagement(_GRID[:, None], _OFFERS[None])
    after = MEMORY * _GRID[:, None, None] - 2 * (_OFFERS[None, :, None] - 0.5) + NOISE * points
    value = np.zeros(len(_GRID))
    for _ in range(STEPS):
        value = _expected_largest(now + np.interp(after, _GRID, value) @ weights)
    return float(np.interp(np.linspace(-FIRST, FIRST, 1001), _GRID, value).mean())


def _expected_largest(worth: Floats) -> Floats:
    """Return the expected largest of ``CANDIDATES`` independent draws from the columns."""
    below = (np.arange(worth.shape[1] + 1) / worth.shape[1]) ** CANDIDATES
    largest: Floats = np.sort(worth, axis=1) @ np.diff(below)
    return largest
