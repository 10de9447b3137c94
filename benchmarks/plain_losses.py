"""The choice losses of ``libs/rl/losses.py`` written plainly in torch, for autograd to differentiate."""

import torch
from torch import Tensor
from torch.nn import functional


def slate_softmax_loss(logits: Tensor, chosen: Tensor, shown: Tensor) -> Tensor:
    """Return the cross entropy of the consumed contents, in equal parts, against the shown ones."""
    log_probability = functional.log_softmax(_masked(logits, shown), dim=1)
    share = chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)
    return -(share * torch.where(chosen, log_probability, 0)).sum(dim=1)


def bernoulli_loss(logits: Tensor, chosen: Tensor, shown: Tensor) -> Tensor:
    """Return the log loss of each shown content, summed over the slate."""
    loss = functional.binary_cross_entropy_with_logits(logits, chosen.to(logits.dtype), reduction="none")
    return torch.where(shown, loss, 0).sum(dim=1)


def conditional_logit_loss(logits: Tensor, chosen: Tensor, shown: Tensor) -> Tensor:
    """Return the cross entropy over the slate and a choice of nothing, whose logit is 0."""
    nothing = torch.zeros_like(logits[:, :1])
    log_probability = functional.log_softmax(torch.cat([_masked(logits, shown), nothing], dim=1), dim=1)
    picked = torch.cat([chosen, ~chosen.any(dim=1, keepdim=True)], dim=1)
    share = picked / picked.sum(dim=1, keepdim=True)
    return -(share * torch.where(picked, log_probability, 0)).sum(dim=1)


def in_batch_softmax_loss(logits: Tensor, log_sampling: Tensor, alternative: Tensor) -> Tensor:
    """Return the cross entropy of column 0 against the alternatives, corrected for how often they are drawn."""
    return -functional.log_softmax(_masked(logits - log_sampling, alternative), dim=1)[:, 0]


def soft_maximum(values: Tensor, mask: Tensor) -> Tensor:
    """Return log Σ exp of the values under the mask."""
    return torch.logsumexp(_masked(values, mask), dim=1)


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, logits, torch.finfo(logits.dtype).min)
