"""From scores to a slate, with the exact probability of having chosen it (rl.md §6)."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64

Rule: TypeAlias = Literal["value", "a", "p"]
Consumption: TypeAlias = Literal["multi", "single"]
Arm: TypeAlias = Literal["policy", "uniform", "greedy"]

DINKELBACH_STEPS: Final = 6
"""Most steps of Dinkelbach's method: it converges superlinearly, the sixth never changed a slate on the benches."""

FLAT: Final = 1e-6
"""A spread below this share of the largest score is rounding, not preference."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """How far a policy leaves the best slate: softmax temperature of the standardised scores, share of uniform draws.

    ``greedy`` takes the best slate and logs 0.0, which off-policy estimates must refuse.
    """

    temperature: float = 0.25
    epsilon: float = 0.02
    greedy: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError("temperature must be above 0; use greedy=True to take the best slate")
        if not 0 <= self.epsilon <= 1:
            raise ValueError("epsilon must lie in [0, 1]")

    def boosted(self, factor: float) -> "Exploration":
        """Return this with so many times the temperature and the share of uniform draws; greedy stays greedy."""
        if factor == 1 or self.greedy:
            return self
        return Exploration(self.temperature * factor, min(1.0, self.epsilon * factor))


@dataclass(frozen=True, slots=True)
class Scores:
    """What the network says of one request: ``advantage`` and ``choice`` logit of each candidate, values of the user.

    ``u`` is the value of the request, ``n`` the expected continuation, ``a_empty`` the advantage of consuming nothing.
    """

    advantage: Float32[np.ndarray, "K"]
    choice: Float32[np.ndarray, "K"]
    u: float
    n: float
    a_empty: float


@dataclass(frozen=True, slots=True)
class Slate:
    """A drawn slate: ``positions`` into the candidates, and log-probabilities of its prefixes, the last the slate's."""

    positions: Int64[np.ndarray, "N"]
    scores: Float32[np.ndarray, "K"]
    log_propensities: Float64[np.ndarray, "N"]
    arm: Arm


def slate_scores(scores: Scores, rule: Rule, consumption: Consumption, size: int) -> Float32[np.ndarray, "K"]:
    """Return what each candidate is ranked by: ``value`` long-term, ``a`` advantage alone, ``p`` choice alone."""
    if rule == "a":
        return scores.advantage
    choice = scores.choice.astype(np.float64)
    if consumption == "multi":
        chosen = 0.5 * (1 + np.tanh(choice / 2))  # the logistic function, safe at any logit
        return (chosen if rule == "p" else chosen * scores.advantage).astype(np.float32)
    weights = np.exp(choice - choice_offset(scores))
    if rule == "p":
        return weights.astype(np.float32)
    return (weights * (scores.advantage.astype(np.float64) - slate_advantage(scores, size))).astype(np.float32)


def choice_offset(scores: Scores) -> float:
    """Return what is taken off each choice logit before its exponential: the largest term's, that of ⊥ (0) included.

    v/(1 + Σv) stays what it is when both are scaled so that the largest term is 1, and exp cannot overflow.
    """
    return max(float(scores.choice.max(initial=0.0)), 0.0)


def slate_advantage(scores: Scores, size: int) -> float:
    """Return λ, the expected advantage (Σ v·A + A⊥)/(Σ v + 1) of the best slate of which at most one is consumed.

    By Dinkelbach's method (Management Science 13(7), 1967); the best slate is that of the largest v·(A − λ).
    """
    offset = choice_offset(scores)
    weights, nothing = np.exp(scores.choice.astype(np.float64) - offset), math.exp(-offset)
    advantage = scores.advantage.astype(np.float64)
    value = scores.a_empty
    for _ in range(DINKELBACH_STEPS):
        best = np.argsort(-weights * (advantage - value), kind="stable")[:size]
        mass = float(weights[best].sum() + nothing)
        if mass == 0:  # logits so far apart that all but one weigh nothing, and that one is worth the value itself
            break
        ratio = float((weights[best] @ advantage[best] + nothing * scores.a_empty) / mass)
        if ratio == value:
            break
        value = ratio
    return value


def plackett_luce(
    scores: Float32[np.ndarray, "K"], exploration: Exploration, size: int, rng: np.random.Generator
) -> Slate:
    """Draw a slate without replacement by Gumbel top-K (Kool et al., 2019, arXiv:1903.06059), ε of the time uniformly.

    Raises
    ------
    ValueError
        A score is not finite: a probability of it would be meaningless.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    size = min(size, len(scores))
    if exploration.greedy:
        best = np.argsort(-scores, kind="stable")[:size]
        return Slate(best, scores, np.zeros(size), "greedy")
    standardised = _standardised(scores)
    positions, arm = _draw(standardised, exploration, size, rng)
    return Slate(positions, scores, _mixture_log_probabilities(standardised, positions, exploration), arm)


def _draw(
    standardised: np.ndarray, exploration: Exploration, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, Arm]:
    arm: Arm = "uniform" if rng.random() < exploration.epsilon else "policy"
    keys = rng.gumbel(size=len(standardised))
    if arm == "policy":
        keys += standardised / exploration.temperature
    return np.argsort(-keys, kind="stable")[:size], arm


def log_probabilities(
    scores: Float32[np.ndarray, "K"], positions: Int[np.ndarray, "N"], exploration: Exploration
) -> Float64[np.ndarray, "N"]:
    """Return the log-probability of each prefix of a slate under the mixture of both arms.

    Exact: the mass left at each position is summed up from the contents not drawn, never by subtraction. Recomputes a
    logged slate from its logged scores, temperature and ε.
    """
    if exploration.greedy:
        return np.zeros(len(positions))
    return _mixture_log_probabilities(_standardised(scores), positions, exploration)


def _mixture_log_probabilities(
    standardised: Float64[np.ndarray, "K"], positions: Int[np.ndarray, "N"], exploration: Exploration
) -> Float64[np.ndarray, "N"]:
    uniform = -np.cumsum(np.log(len(standardised) - np.arange(len(positions))))
    policy = _prefix_log_probabilities(standardised / exploration.temperature, positions)
    with np.errstate(divide="ignore"):  # ε at 0 or 1 leaves one arm: log 0 is the right weight of the other
        mixture: np.ndarray = np.logaddexp(
            np.log1p(-exploration.epsilon) + policy, np.log(exploration.epsilon) + uniform
        )
    np.minimum(mixture, 0.0, out=mixture)  # rounding may leave a sure slate just above log 1
    return mixture


def _prefix_log_probabilities(
    logits: Float64[np.ndarray, "K"], positions: Int[np.ndarray, "N"]
) -> Float64[np.ndarray, "N"]:
    left = np.ones(len(logits), np.bool_)
    left[positions] = False
    rest = logits[left]
    left_over = np.logaddexp.reduce(rest) if len(rest) else -np.inf
    backwards = np.concatenate([[left_over], logits[positions][::-1]])
    mass = np.logaddexp.accumulate(backwards)[1:][::-1]
    cumulated: np.ndarray = np.cumsum(logits[positions] - mass)
    return cumulated


def _standardised(scores: Float32[np.ndarray, "K"]) -> Float64[np.ndarray, "K"]:
    if len(scores) == 0:
        return np.zeros(0)
    centred = scores - scores.mean(dtype=np.float32)
    spread = np.abs(centred).max()
    if spread <= FLAT * np.abs(scores).max():
        return np.zeros(len(scores))
    centred /= spread  # first to unit size: the square of a large single-precision score may overflow
    standardised: np.ndarray = centred / np.sqrt(np.mean(centred * centred, dtype=np.float32))
    return standardised.astype(np.float64)
