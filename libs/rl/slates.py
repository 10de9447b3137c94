"""From scores to a slate, with the exact probability of having chosen it (rl.md §6)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int64

Rule: TypeAlias = Literal["value", "a", "p"]
Consumption: TypeAlias = Literal["multi", "single"]
Arm: TypeAlias = Literal["policy", "uniform", "greedy"]

DINKELBACH_STEPS: Final = 6
"""Most steps of Dinkelbach's method: it converges superlinearly, the sixth never changed a slate on the benches."""

FLAT: Final = 1e-6
"""A spread below this share of the largest score is rounding, not preference."""

_LEAST: Final = -1e300  # instead of -∞, of which nothing can be subtracted


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
    return plackett_luce_all([scores], exploration, [size], rng)[0]


def plackett_luce_all(
    scores: Sequence[Float32[np.ndarray, "_"]], exploration: Exploration, sizes: Sequence[int], rng: np.random.Generator
) -> list[Slate]:
    """Draw a slate for each of several requests, in order; raises as ``plackett_luce`` does."""
    counts = np.array([len(each) for each in scores], np.int64)
    padded = np.zeros((len(scores), int(counts.max(initial=0))), np.float32)
    for row, each in zip(padded, scores, strict=True):
        row[: len(each)] = each
    if not np.isfinite(padded).all():
        raise ValueError("scores must be finite")
    lengths = np.minimum(counts, sizes)
    if exploration.greedy:
        return [_best(each, length) for each, length in zip(scores, lengths.tolist(), strict=True)]
    logits, valid = standardised(padded, counts)
    logits /= exploration.temperature
    uniform = rng.random(len(scores)) < exploration.epsilon
    positions = _drawn(logits, valid, uniform, lengths, rng)
    policy, random = policy_log_probabilities(logits, valid, positions), uniform_log_probabilities(counts, positions)
    log_p = mixture(policy, random, exploration.epsilon)
    arms: list[Arm] = ["uniform" if drawn else "policy" for drawn in uniform.tolist()]
    return [
        Slate(at[:length], each, log_each[:length], arm)
        for at, each, log_each, length, arm in zip(positions, scores, log_p, lengths.tolist(), arms, strict=True)
    ]


def _best(scores: Float32[np.ndarray, "K"], size: int) -> Slate:
    return Slate(np.argsort(-scores, kind="stable")[:size], scores, np.zeros(size), "greedy")


def _drawn(
    logits: np.ndarray, valid: np.ndarray, uniform: np.ndarray, lengths: np.ndarray, rng: np.random.Generator
) -> Int64[np.ndarray, "B N"]:
    """Return positions in the order drawn, -1 where a slate is shorter than the longest."""
    keys = rng.gumbel(size=logits.shape)
    np.add(keys, logits, out=keys, where=~uniform[:, None])
    keys[~valid] = -np.inf
    positions = np.argsort(-keys, axis=1, kind="stable")[:, : lengths.max(initial=0)]
    return np.where(np.arange(positions.shape[1]) < lengths[:, None], positions, -1)


def log_probabilities(
    scores: Float32[np.ndarray, "K"], positions: Int[np.ndarray, "N"], exploration: Exploration
) -> Float64[np.ndarray, "N"]:
    """Return the log-probability of each prefix of a slate under the mixture of both arms.

    Exact: the mass left at each position is summed up from the contents not drawn, never by subtraction. Recomputes a
    logged slate from its logged scores, temperature and ε.
    """
    if exploration.greedy:
        return np.zeros(len(positions))
    counts, slates = np.array([len(scores)]), positions[None]
    logits, valid = standardised(scores[None], counts)
    policy = policy_log_probabilities(logits / exploration.temperature, valid, slates)
    (both,) = mixture(policy, uniform_log_probabilities(counts, slates), exploration.epsilon)
    return np.asarray(both)


def standardised(
    scores: Float32[np.ndarray, "B K"], counts: Int64[np.ndarray, "B"]
) -> tuple[Float64[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]:
    """Return each row's scores at mean 0 and root mean square 1, 0 beyond its candidates, and where those are."""
    valid = np.arange(scores.shape[1]) < counts[:, None]
    counts = np.maximum(counts, 1)
    centred = scores.astype(np.float64)
    least = FLAT * np.abs(scores).max(axis=1, keepdims=True, initial=0.0)
    centred -= centred.sum(axis=1, keepdims=True) / counts[:, None]
    centred *= valid
    root = np.sqrt(np.vecdot(centred, centred)[:, None] / counts[:, None])  # squares of scores: double holds them
    flat = np.abs(centred).max(axis=1, keepdims=True, initial=0.0) <= least
    centred /= np.where(flat, np.inf, root)
    return centred, valid


def policy_log_probabilities(
    logits: Float64[np.ndarray, "B K"], valid: Bool[np.ndarray, "B K"], positions: Int[np.ndarray, "B N"]
) -> Float64[np.ndarray, "B N"]:
    """Return log-probabilities of the prefixes of slates drawn one content after the other, position -1 being none."""
    shown = positions >= 0
    taken = np.where(shown, np.take_along_axis(logits, np.maximum(positions, 0), axis=1), -np.inf)
    rest = np.where(valid, logits, -np.inf)
    rows, columns = np.nonzero(shown)
    rest[rows, positions[rows, columns]] = -np.inf
    largest = np.maximum(rest.max(axis=1, keepdims=True, initial=-np.inf), _LEAST)
    with np.errstate(divide="ignore"):  # nothing may be left over
        left_over = np.log(np.exp(rest - largest).sum(axis=1, keepdims=True)) + largest
    # The mass left at each position is summed up from the contents not drawn, never by subtraction.
    left = np.logaddexp.accumulate(np.concatenate([left_over, taken[:, ::-1]], axis=1), axis=1)[:, 1:][:, ::-1]
    steps = np.zeros(shown.shape)
    np.subtract(taken, left, out=steps, where=shown)
    cumulated: np.ndarray = np.cumsum(steps, axis=1)
    return cumulated


def uniform_log_probabilities(
    counts: Int64[np.ndarray, "B"], positions: Int[np.ndarray, "B N"]
) -> Float64[np.ndarray, "B N"]:
    """Return log-probabilities of the prefixes of slates drawn uniformly from so many contents."""
    left = counts[:, None] - np.arange(positions.shape[1])
    cumulated: np.ndarray = -np.cumsum(np.log(np.where(positions >= 0, left, 1)), axis=1)
    return cumulated


def mixture(
    policy: Float64[np.ndarray, "B N"], uniform: Float64[np.ndarray, "B N"], epsilon: Float64[np.ndarray, "B 1"] | float
) -> Float64[np.ndarray, "B N"]:
    """Return the log-probabilities under a policy that draws uniformly with probability ``epsilon``."""
    with np.errstate(divide="ignore"):  # ε at 0 or 1 leaves one arm: log 0 is the right weight of the other
        both: np.ndarray = np.logaddexp(np.log1p(-epsilon) + policy, np.log(epsilon) + uniform)
    np.minimum(both, 0.0, out=both)  # rounding may leave a sure slate just above log 1
    return both
