"""Targets and losses as pure functions of tensors; the suffix says the time (rl.md §4)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def discounts(gamma: float, gap_s: Float[Tensor, "B"], tau_s: float) -> Float[Tensor, "B"]:
    """Return γ^clip(Δt/τ, 1, 10): a discount for the time that passed, data rather than γ(1 − done).

    The lower clip keeps values within slate size · reward / (1 − γ); the upper one keeps a gap inside the horizon from
    reading like an end. Real gaps follow ReAgent's ``discount_time_scale``.
    """
    return gamma ** torch.clamp(gap_s / tau_s, 1, 10)


def td_target(
    r_t: Float[Tensor, "*shape"], discount_t: Float[Tensor, "*shape"], value_t: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return what a value should have been, without gradient (Sutton & Barto, 2018, eq. 6.5)."""
    return (r_t + discount_t * value_t).detach()


def huber(prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return Huber's loss with threshold 1, elementwise."""
    return functional.smooth_l1_loss(prediction, target, reduction="none")


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return the mean of the values under the mask, 0 when there is none."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def slate_softmax_loss(
    logits: Float[Tensor, "B N"], chosen: Bool[Tensor, "B N"], shown: Bool[Tensor, "B N"]
) -> Float[Tensor, "B"]:
    """Return the cross entropy of the consumed contents, in equal parts, against the shown ones and without ⊥.

    For rows whose story is still open: whether anything more is consumed is not known yet, so the loss says which
    content was preferred and leaves open how often something is.
    """
    log_probability = functional.log_softmax(_masked(logits, shown), dim=1)
    share = chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)
    return -(share * torch.where(chosen, log_probability, 0)).sum(dim=1)


def bernoulli_loss(
    logits: Float[Tensor, "B N"], chosen: Bool[Tensor, "B N"], shown: Bool[Tensor, "B N"]
) -> Float[Tensor, "B"]:
    """Return the log loss of each shown content, consumed or not, summed over the slate (``consumption="multi"``)."""
    loss = functional.binary_cross_entropy_with_logits(logits, chosen.to(logits.dtype), reduction="none")
    return torch.where(shown, loss, 0).sum(dim=1)


def conditional_logit_loss(
    logits: Float[Tensor, "B N"], chosen: Bool[Tensor, "B N"], shown: Bool[Tensor, "B N"]
) -> Float[Tensor, "B"]:
    """Return the cross entropy over the slate and ⊥, whose logit is 0 (``consumption="single"``).

    Several consumed contents share the target; none makes ⊥ the target.
    """
    nothing = torch.zeros_like(logits[:, :1])
    log_probability = functional.log_softmax(torch.cat([_masked(logits, shown), nothing], dim=1), dim=1)
    picked = torch.cat([chosen, ~chosen.any(dim=1, keepdim=True)], dim=1)
    share = picked / picked.sum(dim=1, keepdim=True)
    return -(share * torch.where(picked, log_probability, 0)).sum(dim=1)


def in_batch_softmax_loss(
    logits: Float[Tensor, "B J"], log_sampling: Float[Tensor, "B J"], alternative: Bool[Tensor, "B J"]
) -> Float[Tensor, "B"]:
    """Return the cross entropy of column 0 against alternatives that came with the batch.

    A popular content is a frequent alternative; subtracting the log of how frequent takes that out again (sampling-bias
    correction, Yi et al., RecSys 2019). Where ``alternative`` is false the column is no alternative.
    """
    return -functional.log_softmax(_masked(logits - log_sampling, alternative), dim=1)[:, 0]


def soft_maximum(values: Float[Tensor, "B K"], mask: Bool[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """Return log Σ exp of the values under the mask, what conservative Q-learning pushes down (CQL(H), Kumar et al.,
    2020, arXiv:2006.04779); without meaning where nothing is under it.
    """  # noqa: D205 - one sentence
    return torch.logsumexp(_masked(values, mask), dim=1) if values.shape[1] else values.new_zeros(len(values))


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    # The least finite number, not -inf: 0 · -inf is NaN on a row where nothing is left.
    return torch.where(mask, logits, torch.finfo(logits.dtype).min)
