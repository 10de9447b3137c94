"""The slate a greedy policy would show, and what it is worth, for whole batches (rl.md §4, ``target="greedy"``).

The scores are those of ``slates.slate_scores`` under rule ``value``, held equal by a test; this form runs over rows of
a batch at once, in torch, and pads.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from libs.rl.slates import DINKELBACH_STEPS, Consumption


def slate_value(
    advantage: Float[Tensor, "B K"],
    choice: Float[Tensor, "B K"],
    n: Float[Tensor, "B"],
    a_empty: Float[Tensor, "B"],
    shown: Bool[Tensor, "B K"],
    consumption: Consumption,
) -> Float[Tensor, "B"]:
    """Return the value of a request in which the contents under ``shown`` make the slate.

    ``single``: N + Σ P(i)·A_i with ⊥ among the choices (SlateQ, Ie et al., 2019, arXiv:1905.12767, with the user's
    value taken out). ``multi``: N + Σ p_i·A_i + Π(1 − p_i)·A⊥, every content consumed or not by itself.
    """
    if consumption == "multi":
        chosen = torch.where(shown, torch.sigmoid(choice), 0)
        return n + (chosen * advantage).sum(dim=1) + (1 - chosen).prod(dim=1) * a_empty
    weights, nothing = _choice_weights(choice, shown)
    total = (weights * advantage).sum(dim=1) + nothing * a_empty
    return n + total / (weights.sum(dim=1) + nothing)


def best_slate(
    advantage: Float[Tensor, "B K"],
    choice: Float[Tensor, "B K"],
    a_empty: Float[Tensor, "B"],
    offered: Bool[Tensor, "B K"],
    size: Int64[Tensor, "B"],
    consumption: Consumption,
) -> Bool[Tensor, "B K"]:
    """Return which ``size`` of the offered contents rule ``value`` would show (all of them where there are fewer)."""
    if consumption == "multi":
        return _top(torch.sigmoid(choice) * advantage, offered, size)
    weights, nothing = _choice_weights(choice, offered)
    value = a_empty
    best = _top(weights * (advantage - value[:, None]), offered, size)
    for _ in range(DINKELBACH_STEPS):
        shown = torch.where(best, weights, 0)
        value = ((shown * advantage).sum(dim=1) + nothing * a_empty) / (shown.sum(dim=1) + nothing)
        best = _top(weights * (advantage - value[:, None]), offered, size)
    return best


def _choice_weights(choice: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Return exp(ℓ) of each content and of ⊥, scaled so that the largest is 1: exp cannot overflow."""
    largest = torch.where(shown, choice, 0).amax(dim=1).clamp(min=0)
    return torch.where(shown, torch.exp(choice - largest[:, None]), 0), torch.exp(-largest)


def _top(scores: Tensor, offered: Tensor, size: Tensor) -> Tensor:
    masked = torch.where(offered, scores, torch.finfo(scores.dtype).min)
    rank = masked.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < size[:, None]) & offered
