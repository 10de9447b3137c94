"""Requests with known chances, so that what a policy is worth is known: 30 candidates, slates of five.

A user's taste is a logit for each candidate; the ranker that serves sees it through noise, and a better one through
less. Each click makes the next less likely, which is how rewards interact down a slate.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from libs.rl.logged_slates import LoggedSlates, prefix_log_probabilities
from libs.rl.off_policy import RewardModel, Tally, tally
from libs.rl.slates import standardised

CANDIDATES: Final = 30
SIZE: Final = 5
TEMPERATURE: Final = 1.0
EPSILON: Final = 0.1
_OFFSET: Final = -2.0
_FATIGUE: Final = 0.5
_BETTER: Final = 0.7  # noise of the better ranker; that of the one that serves is 1
_TRUTH_REQUESTS: Final = 400_000
_MODEL_DRAWS: Final = 8

Name: TypeAlias = Literal["uniform", "exploit", "better ranker"]
NAMES: Final[tuple[Name, ...]] = ("uniform", "exploit", "better ranker")
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requests:
    """Tastes, and what two rankers make of them."""

    tastes: Floats
    served: Floats
    better: Floats

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> "Requests":
        """Return so many requests."""
        tastes, first, second = rng.normal(size=(3, count, CANDIDATES))
        return cls(tastes, tastes + first, tastes + _BETTER * second)

    def policy(self, name: Name) -> tuple[Floats, float, float]:
        """Return scores, temperature and ε of a target policy."""
        if name == "uniform":
            return self.served, TEMPERATURE, 1.0
        return (self.served, TEMPERATURE / 2, 0.0) if name == "exploit" else (self.better, TEMPERATURE, EPSILON)

    def clicks(self, slates: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """Let users click, from the top down."""
        logits = np.take_along_axis(self.tastes, slates, axis=1) + _OFFSET
        clicks = np.zeros(slates.shape)
        for position in range(slates.shape[1]):
            tired = _FATIGUE * clicks[:, :position].sum(axis=1)
            clicks[:, position] = rng.random(len(slates)) < 1 / (1 + np.exp(tired - logits[:, position]))
        return clicks


def slates(scores: Floats, temperature: float, epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a slate for each request, as ``libs.rl.slates`` does for one."""
    logits, _ = standardised(scores.astype(np.float32), np.full(len(scores), scores.shape[1]))
    at_random = rng.random(len(scores)) < epsilon
    keys = rng.gumbel(size=scores.shape) + np.where(at_random[:, None], 0.0, logits / temperature)
    best: NDArray[np.int64] = np.argsort(-keys, axis=1)[:, :SIZE]
    return best


def truth(name: Name, rng: np.random.Generator, count: int = _TRUTH_REQUESTS) -> float:
    """Return what a policy earns by letting it serve; the standard error is a quarter of a percent."""
    requests = Requests.draw(count, rng)
    return float(requests.clicks(slates(*requests.policy(name), rng), rng).sum(axis=1).mean())


@dataclass(frozen=True, slots=True)
class Log:
    """What was served and clicked."""

    requests: Requests
    slates: NDArray[np.int64]
    clicks: Floats
    log_propensities: Floats

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> "Log":
        """Let the first ranker serve so many requests."""
        requests = Requests.draw(count, rng)
        shown = slates(requests.served, TEMPERATURE, EPSILON, rng)
        log_propensities = _log_probabilities(requests.served, shown, TEMPERATURE, EPSILON)
        return cls(requests, shown, requests.clicks(shown, rng), log_propensities)

    def tally(self, name: Name, rng: np.random.Generator) -> Tally:
        """Sum up for one target policy; every request is a user of its own."""
        scores, temperature, epsilon = self.requests.policy(name)
        log_weights = _log_probabilities(scores, self.slates, temperature, epsilon) - self.log_propensities
        count = len(self.slates)
        chances = 1 / (1 + np.exp(-_OFFSET - self.requests.served))  # a model that knows neither taste nor fatigue well
        drawn = [slates(scores, temperature, epsilon, rng) for _ in range(_MODEL_DRAWS)]
        target = np.mean([np.take_along_axis(chances, each, axis=1).sum(axis=1) for each in drawn], axis=0)
        model = RewardModel(np.take_along_axis(chances, self.slates, axis=1).sum(axis=1), target)
        return tally(self.clicks, self.clicks >= 0, log_weights, np.arange(count), count, model)


def _log_probabilities(scores: Floats, shown: NDArray[np.int64], temperature: float, epsilon: float) -> Floats:
    count, everybody = len(scores), np.ones(len(scores))
    candidates = np.full(count, scores.shape[1])
    logged = LoggedSlates(scores.astype(np.float32), candidates, shown, everybody, everybody, np.zeros(shown.shape))
    return prefix_log_probabilities(logged, temperature * everybody, epsilon * everybody)
