"""Losses as pure functions of arrays, each with its gradient in closed form (rl.md §4).

A batch's loss is many steps over a few thousand numbers: autograd takes longer to note such a step than the step
takes. Where a loss is by row, so is the gradient: that of the row's loss alone. What is under no mask has no part in
either, whatever it is.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

Graded: TypeAlias = tuple[np.ndarray, np.ndarray]
"""A loss and its gradient with respect to the function's first argument."""


def discounts(gamma: float, gap_s: Float[np.ndarray, "C"], tau_s: float) -> Float[np.ndarray, "C"]:
    """Return γ^clip(Δt/τ, 1, 10): a discount for the time that passed, data rather than γ(1 − done).

    The lower clip keeps values within slate size · reward / (1 − γ); the upper one keeps a gap inside the horizon from
    reading like an end. Real gaps follow ReAgent's ``discount_time_scale``.
    """
    return np.power(gamma, np.clip(gap_s / tau_s, 1, 10), dtype=gap_s.dtype)


def mean_huber_loss(
    prediction: Float[np.ndarray, "*shape"], target: Float[np.ndarray, "*shape"], mask: Bool[np.ndarray, "*shape"]
) -> tuple[float, np.ndarray]:
    """Return the mean of Huber's loss with threshold 1 under the mask, 0 when there is nothing."""
    error = np.where(mask, prediction - target, 0)
    slope = np.clip(error, -1, 1)
    count = max(int(np.count_nonzero(mask)), 1)
    # e²/2 within the threshold and |e| − 1/2 beyond it are both slope · (e − slope/2).
    return float((slope * (error - slope / 2)).sum()) / count, slope / count


def slate_softmax_loss(
    logits: Float[np.ndarray, "B N"], chosen: Bool[np.ndarray, "B N"], shown: Bool[np.ndarray, "B N"]
) -> Graded:
    """Return the cross entropy of the consumed contents, in equal parts, against the shown ones and without ⊥.

    For rows whose story is still open: whether anything more is consumed is not known yet, so the loss says which
    content was preferred and leaves open how often something is.
    """
    return _cross_entropy(logits, _equal_shares(chosen, logits.dtype), shown)


def bernoulli_loss(
    logits: Float[np.ndarray, "B N"], chosen: Bool[np.ndarray, "B N"], shown: Bool[np.ndarray, "B N"]
) -> Graded:
    """Return the log loss of each shown content, consumed or not, summed over the slate (``consumption="multi"``)."""
    small = np.exp(-np.abs(logits))  # the exponential that cannot overflow
    loss = np.maximum(logits, 0) - logits * chosen + np.log1p(small)
    slope = np.where(logits >= 0, 1, small) / (1 + small) - chosen
    return np.where(shown, loss, 0).sum(axis=1), np.where(shown, slope, 0)


def conditional_logit_loss(
    logits: Float[np.ndarray, "B N"], chosen: Bool[np.ndarray, "B N"], shown: Bool[np.ndarray, "B N"]
) -> Graded:
    """Return the cross entropy over the slate and ⊥, whose logit is 0 (``consumption="single"``).

    Several consumed contents share the target; none makes ⊥ the target.
    """
    nothing = np.zeros((len(logits), 1), logits.dtype)
    picked = np.concatenate([chosen, ~chosen.any(axis=1, keepdims=True)], axis=1)
    among = np.concatenate([shown, nothing == 0], axis=1)
    whole = np.concatenate([logits, nothing], axis=1)
    loss, slope = _cross_entropy(whole, _equal_shares(picked, logits.dtype), among)
    return loss, slope[:, :-1]


def in_batch_softmax_loss(
    logits: Float[np.ndarray, "B J"], log_sampling: Float[np.ndarray, "B J"], alternative: Bool[np.ndarray, "B J"]
) -> Graded:
    """Return the cross entropy of column 0 against alternatives that came with the batch.

    A popular content is a frequent alternative; subtracting the log of how frequent takes that out again (sampling-bias
    correction, Yi et al., RecSys 2019). Where ``alternative`` is false the column is no alternative.
    """
    own = np.zeros_like(logits)
    own[:, :1] = 1
    return _cross_entropy(logits - log_sampling, own, alternative)


def soft_maximum(values: Float[np.ndarray, "B K"], mask: Bool[np.ndarray, "B K"]) -> Graded:
    """Return log Σ exp of the values under the mask, what conservative Q-learning pushes down (CQL(H), Kumar et al.,
    2020, arXiv:2006.04779); without meaning where nothing is under it.
    """  # noqa: D205 - one sentence
    largest, weights, total = _exponentials(values, mask)
    return (largest + np.log(total))[:, 0], np.where(mask, weights / total, 0)


def _cross_entropy(logits: np.ndarray, share: np.ndarray, mask: np.ndarray) -> Graded:
    """Return the cross entropy of target shares against the softmax of what is under the mask."""
    largest, weights, total = _exponentials(logits, mask)
    log_probability = logits - (largest + np.log(total))
    loss = -np.where(share > 0, share * log_probability, 0).sum(axis=1)
    return loss, np.where(mask, share.sum(axis=1, keepdims=True) * weights / total - share, 0)


def _exponentials(logits: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # The least finite number, not -inf: -inf - -inf is NaN on a row where nothing is left.
    least = np.finfo(logits.dtype).min
    masked = np.where(mask, logits, least)
    largest = masked.max(axis=1, keepdims=True, initial=least)
    weights = np.exp(masked - largest)
    return largest, weights, weights.sum(axis=1, keepdims=True)


def _equal_shares(picked: np.ndarray, dtype: np.dtype) -> np.ndarray:
    shares: np.ndarray = picked / np.maximum(picked.sum(axis=1, keepdims=True), 1).astype(dtype)
    return shares
