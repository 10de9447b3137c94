"""A reward model for doubly robust estimates: the choice head, and what it expects of another policy's slates."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from libs.rl.prequential import choice_probabilities
from libs.rl.slates import Consumption, standardised

DRAWS: Final = 8
"""Slates drawn to approximate an expectation; its noise is unbiased and averages out over requests."""


def consumption_of(choice: Float32[np.ndarray, "K"], positions: Int64[np.ndarray, "N"], model: Consumption) -> float:
    """Return how many contents of one slate are consumed, as the choice logits have it."""
    return float(_consumption(choice, positions[None], model)[0])


def expected_consumption(
    choice: Float32[np.ndarray, "K"],
    scores: Float32[np.ndarray, "K"],
    temperature: float,
    epsilon: float,
    size: int,
    model: Consumption,
    rng: np.random.Generator,
) -> float:
    """Return the same for the slates that a policy draws from these scores, by ``DRAWS`` draws of each of its arms."""
    logits = standardised(scores[None], np.array([len(scores)], np.int64))[0][0] / temperature
    arms = ((1 - epsilon, logits), (epsilon, np.zeros(len(scores))))
    return sum(share * _mean(choice, arm, size, model, rng) for share, arm in arms if share > 0)


def _mean(
    choice: Float32[np.ndarray, "K"],
    logits: Float64[np.ndarray, "K"],
    size: int,
    model: Consumption,
    rng: np.random.Generator,
) -> float:
    keys = logits + rng.gumbel(size=(DRAWS, len(logits)))
    best = np.argpartition(-keys, size - 1, axis=1)[:, :size]  # in no order: consumption does not ask for one
    return float(_consumption(choice, best, model).mean())


def _consumption(
    choice: Float32[np.ndarray, "K"], positions: Int64[np.ndarray, "S N"], model: Consumption
) -> Float64[np.ndarray, "S"]:
    shown: Bool[np.ndarray, "S N"] = np.ones(positions.shape, np.bool_)
    summed: np.ndarray = choice_probabilities(choice[positions].astype(np.float64), shown, model).sum(axis=1)
    return summed
