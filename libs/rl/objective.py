"""What an update minimises: the parts of a batch's loss, and from them one gradient for the network (rl.md §4)."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from libs.rl import losses
from libs.rl.action_space import PADDING
from libs.rl.batch import Batch, Draws
from libs.rl.networks import A_EMPTY, N, U
from libs.rl.settings import AgentSettings
from libs.rl.update import Outputs

PARTS: Final = ("u", "n", "a", "a_empty", "choice", "organic", "conservative")
"""The first three heads against their targets, A⊥, and what is said of choices and of offers."""


def loss_parts(
    outputs: Outputs, continuation: Float[Tensor, "B"], batch: Batch, draws: Draws, settings: AgentSettings
) -> dict[str, Tensor]:
    """Return the parts of the loss by name; the gradient is that of ``total``."""
    told = _Told(batch, draws, settings, continuation.numpy())
    heads = (outputs.advantage, outputs.choice, outputs.values, outputs.organic)
    whole = _Objective.apply(told, *heads, outputs.popularity_share, outputs.offered)
    parts = dict(zip(("total", *PARTS), whole.unbind(), strict=True))
    if batch.offers is None:
        del parts["conservative"]
    return parts


@dataclass(frozen=True, slots=True)
class _Told:
    """What the outputs are held against."""

    batch: Batch
    draws: Draws
    settings: AgentSettings
    continuation: Float[np.ndarray, "B"]

    def weights(self) -> dict[str, float]:
        """Return how much each part counts."""
        beta = self.settings.beta
        by_choice = {"choice": beta, "organic": beta * self.settings.organic_weight}
        return dict.fromkeys(PARTS, 1.0) | by_choice | {"conservative": self.settings.cql_weight}


@dataclass(slots=True)
class _Slopes:
    """The gradient of each part, by the output it is with respect to."""

    losses: dict[str, float]
    u: np.ndarray
    n: np.ndarray
    a_empty: np.ndarray
    a: np.ndarray
    choice: np.ndarray
    organic: np.ndarray
    share: float
    conservative: np.ndarray
    offered: np.ndarray


class _Objective(Function):
    """The total and the parts of the loss as one vector, of the network's outputs."""

    @staticmethod
    def forward(ctx: Any, told: _Told, *outputs: Tensor) -> Tensor:
        with np.errstate(all="ignore"):  # what is not finite shows in the gradient, and the agent refuses that
            slopes = _slopes(told, *(tensor.detach().numpy() for tensor in outputs))
        ctx.slopes, ctx.weights = slopes, told.weights()
        parts = [slopes.losses[name] for name in PARTS]
        total = sum(ctx.weights[name] * part for name, part in zip(PARTS, parts, strict=True))
        return outputs[0].new_tensor([total, *parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_total, *own = grad.tolist()
        of = {name: of_total * ctx.weights[name] + slope for name, slope in zip(PARTS, own, strict=True)}
        slopes: _Slopes = ctx.slopes
        values = np.stack([of["u"] * slopes.u, of["n"] * slopes.n, of["a_empty"] * slopes.a_empty], axis=1)
        advantage = of["a"] * slopes.a + of["conservative"] * slopes.conservative
        choice, organic = of["choice"] * slopes.choice, of["organic"] * slopes.organic
        arrays = (advantage, choice, values, organic, np.asarray(of["organic"] * slopes.share))
        offered = of["conservative"] * slopes.offered
        return None, *(torch.from_numpy(array).to(grad.dtype) for array in (*arrays, offered))


def _slopes(
    told: _Told,
    advantage: np.ndarray,
    choice: np.ndarray,
    values: np.ndarray,
    organic: np.ndarray,
    share: np.ndarray,
    offered: np.ndarray,
) -> _Slopes:
    batch, continuation = told.batch, told.continuation
    settled, above = batch.settled, continuation - values[:, N]  # what the story was worth above expectation
    empty, consumed = settled & ~batch.chosen.any(axis=1), batch.chosen & settled[:, None]
    parts, slopes = {}, {}
    for name, prediction, target, mask in (
        ("u", values[:, U], batch.rewards.sum(axis=1) + continuation, settled),
        ("n", values[:, N], continuation, settled),
        ("a", advantage, batch.rewards + above[:, None], consumed),
        ("a_empty", values[:, A_EMPTY], above, empty),
    ):
        parts[name], slopes[name] = losses.mean_huber_loss(prediction, target, mask)
    parts["choice"], of_choice = _choice_loss(choice, told)
    parts["organic"], of_organic, of_share = _organic_loss(organic, share, told.draws)
    parts["conservative"], of_advantage, of_offered = _conservative_loss(advantage, offered, batch)
    return _Slopes(
        parts,
        **slopes,
        choice=of_choice,
        organic=of_organic,
        share=of_share,
        conservative=of_advantage,
        offered=of_offered,
    )


def _choice_loss(logits: np.ndarray, told: _Told) -> tuple[float, np.ndarray]:
    batch, shown = told.batch, told.batch.slate != PADDING
    own = losses.bernoulli_loss if told.settings.consumption == "multi" else losses.conditional_logit_loss
    loss, slopes = 0.0, np.zeros_like(logits)
    for rule, rows in (
        (own, batch.closed & ~batch.organic),
        (losses.slate_softmax_loss, ~batch.closed & ~batch.organic),
    ):
        of_rows, slopes[rows] = rule(logits[rows], batch.chosen[rows], shown[rows])
        loss += float(of_rows.sum())
    count = max(len(logits) - int(np.count_nonzero(batch.organic)), 1)
    return loss / count, slopes / count


def _organic_loss(logits: np.ndarray, share: np.ndarray, draws: Draws) -> tuple[float, np.ndarray, float]:
    """Return the loss, and its gradient by logit and by the share of popularity that is taken out of each."""
    if not len(logits):
        return 0.0, logits, 0.0
    loss, slopes = losses.in_batch_softmax_loss(logits, share * draws.log_sampling, draws.usable)
    slopes = slopes / len(logits)
    return float(loss.sum()) / len(logits), slopes, -float((slopes * draws.log_sampling).sum())


def _conservative_loss(
    advantage: np.ndarray, offered: np.ndarray, batch: Batch
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return by how much the offers' advantages exceed the consumed one's (mean over consumptions), and gradients."""
    if batch.offers is None:
        return 0.0, np.zeros_like(advantage), offered
    there = batch.offers.candidates != PADDING
    learned = batch.chosen & batch.settled[:, None] & there.any(axis=1, keepdims=True)
    largest, slopes = losses.soft_maximum(offered, there)
    weights = learned / np.maximum(np.count_nonzero(learned), 1).astype(advantage.dtype)
    excess = np.where(learned, largest[:, None] - advantage, 0)
    return float((excess * weights).sum()), -weights, weights.sum(axis=1, keepdims=True) * slopes
