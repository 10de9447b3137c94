"""SlateQ's interest evolution (Ie et al., 2019, arXiv:1905.12767; RecSim's ``interest_evolution``), many users at once.

A document is one of 20 topics, its quality hidden. A user's interests are seen and drift with what is consumed; the
budget of minutes is hidden, and good documents spend little of it: whoever shows what is liked now ends the session
early.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

TOPICS: Final = 20
CANDIDATES: Final = 10
SLATE: Final = 3
LENGTH_MIN: Final = 4.0
BUDGET_MIN: Final = 200.0
NOTHING_COST_MIN: Final = 0.5
NOTHING_SCORE: Final = 2.0
NOTHING: Final = -1

QUALITY: Final = np.concatenate([np.linspace(-3, 0, 14), np.linspace(0, 3, 6)])
_QUALITY_SPREAD: Final = 0.1
_BUDGET_PER_QUALITY: Final = 0.9 / 3.4  # what a watched minute of quality 1 gives back
_DRIFT: Final = 0.3

COST_MIN: Final = LENGTH_MIN * (1 - _BUDGET_PER_QUALITY * QUALITY)
"""Expected budget that a consumed document of each topic takes."""

Policy: TypeAlias = Callable[[Float64[np.ndarray, "U T"], Int64[np.ndarray, "U K"]], Int64[np.ndarray, "U N"]]
"""From interests and the candidates' topics to positions of the candidates shown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one round of requests came to: the position consumed, or ``NOTHING``, and the minutes watched."""

    position: Int64[np.ndarray, "U"]
    minutes: Float64[np.ndarray, "U"]
    ended: Bool[np.ndarray, "U"]


class Sessions:
    """Users in lockstep, each with a session of their own.

    ``interests`` is what a policy may see; ``budget_min`` is not. Sessions that ended stay so until ``renew``.
    """

    def __init__(self, users: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.interests = np.zeros((users, TOPICS))
        self.budget_min = np.zeros(users)
        self.renew(np.ones(users, np.bool_))

    def renew(self, which: Bool[np.ndarray, "U"]) -> None:
        """Put a new user, with a full budget, where ``which`` says."""
        self.interests[which] = self.rng.uniform(-1, 1, (int(which.sum()), TOPICS))
        self.budget_min[which] = BUDGET_MIN

    def candidates(self) -> Int64[np.ndarray, "U K"]:
        """Return the topics of ten fresh documents for everybody."""
        return self.rng.integers(0, TOPICS, (len(self.budget_min), CANDIDATES))

    def step(self, slate: Int64[np.ndarray, "U N"]) -> Outcome:
        """Show topics to users and return what they did; whose session has ended does nothing."""
        active = self.budget_min > 0
        position = choose(choice_probabilities(self.interests, slate), self.rng)
        position = np.where(active, position, NOTHING)
        consumed = position != NOTHING
        users = np.flatnonzero(consumed)
        topic = slate[users, position[users]]
        minutes = np.zeros(len(active))
        minutes[users] = np.minimum(self.budget_min[users], LENGTH_MIN)
        quality = self.rng.normal(QUALITY[topic], _QUALITY_SPREAD)
        self.budget_min[users] += minutes[users] * (_BUDGET_PER_QUALITY * quality - 1)
        self.budget_min[active & ~consumed] -= NOTHING_COST_MIN
        self.interests[users, topic] = drift(self.interests[users, topic], self.rng)
        return Outcome(position, minutes, self.budget_min <= 0)


def choice_probabilities(
    interests: Float64[np.ndarray, "U T"], slate: Int64[np.ndarray, "U N"]
) -> Float64[np.ndarray, "U M"]:
    """Return how likely each shown document is to be consumed, and last how likely nothing is."""
    scores = np.take_along_axis(interests, slate, axis=1) + 1
    scores = np.concatenate([scores, np.full((len(slate), 1), NOTHING_SCORE)], axis=1)
    shares: np.ndarray = scores / scores.sum(axis=1, keepdims=True)
    return shares


def choose(probabilities: Float64[np.ndarray, "U M"], rng: np.random.Generator) -> Int64[np.ndarray, "U"]:
    """Draw a position for each user, ``NOTHING`` for the last column."""
    edges = np.cumsum(probabilities[:, :-1], axis=1)
    drawn = (rng.random((len(edges), 1)) >= edges).sum(axis=1)
    return np.where(drawn == edges.shape[1], NOTHING, drawn).astype(np.int64)


def drift(interest: Float64[np.ndarray, "U"], rng: np.random.Generator) -> Float64[np.ndarray, "U"]:
    """Return interest in a topic after one of its documents was consumed: up with probability (I + 1)/2."""
    sign = np.where(rng.random(len(interest)) < (interest + 1) / 2, 1.0, -1.0)
    moved = interest + sign * (_DRIFT - _DRIFT * np.abs(interest)) * (1 - interest)
    clipped: np.ndarray = np.clip(moved, -1.0, 1.0)
    return clipped


def returns(policy: Policy, sessions: int, seed: int) -> Float64[np.ndarray, "U"]:
    """Return the minutes watched in each of so many whole sessions under a policy."""
    world = Sessions(sessions, np.random.default_rng([seed, 1]))
    watched = np.zeros(sessions)
    while (active := np.flatnonzero(world.budget_min > 0)).size:
        topics = world.candidates()
        slate = np.zeros((sessions, SLATE), np.int64)
        shown = policy(world.interests[active], topics[active])
        slate[active] = np.take_along_axis(topics[active], shown, axis=1)
        watched += world.step(slate).minutes
    return watched


def random_policy(seed: int) -> Policy:
    """Show any three candidates."""
    rng = np.random.default_rng([seed, 2])

    def shown(_: np.ndarray, topics: np.ndarray) -> np.ndarray:
        return np.argsort(rng.random(topics.shape), axis=1)[:, :SLATE]

    return shown


def myopic(interests: Float64[np.ndarray, "U T"], topics: Int64[np.ndarray, "U K"]) -> Int64[np.ndarray, "U N"]:
    """Show what the user is most likely to consume now, by the true interests."""
    return np.argsort(-np.take_along_axis(interests, topics, axis=1), axis=1, kind="stable")[:, :SLATE]


def priced(price: float) -> Policy:
    """Rank by true choice scores, minutes and costs, a minute of budget being worth ``price`` minutes watched.

    The best slate for one request maximises (Σ v·a + 2·a⊥)/(Σ v + 2), found by Dinkelbach's method. The best price is
    what a session returns for each minute of its budget: the best there is if interests did not drift.
    """

    def shown(interests: np.ndarray, topics: np.ndarray) -> np.ndarray:
        weight = np.take_along_axis(interests, topics, axis=1) + 1
        gain, nothing = LENGTH_MIN - price * COST_MIN[topics], -price * NOTHING_COST_MIN
        value = np.full((len(topics), 1), nothing)
        for _ in range(6):
            best = np.argsort(-weight * (gain - value), axis=1, kind="stable")[:, :SLATE]
            v, a = (np.take_along_axis(each, best, axis=1) for each in (weight, gain))
            value = ((v * a).sum(1) + NOTHING_SCORE * nothing)[:, None] / (v.sum(1) + NOTHING_SCORE)[:, None]
        return best

    return shown
