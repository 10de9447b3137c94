"""Steps of an update whose gradient by hand takes fewer passes over memory than the one autograd would take.

Ordinary differentiable functions of tensors; a test checks their gradients in double precision.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def partly_learned_products(
    given: Float[Tensor, "B G"], learned: Float[Tensor, "B E"], at: int, *weights: Float[Tensor, "F S"]
) -> Float[Tensor, "B W"]:
    """Return the products of weights, side by side, and an input: ``given``, but for the ``learned`` columns at ``at``.

    Nobody needs a gradient of what is given: that product is a third of what all of them together cost.
    """
    return cast(Tensor, _PartlyLearnedProducts.apply(given, learned, at, *weights))


def bag_sums(rows: Float[Tensor, "R E"], bags: Int64[Tensor, "M"], offsets: Int64[Tensor, "B"]) -> Float[Tensor, "B E"]:
    """Return the sum of the rows that ``bags`` names from each of ``offsets`` to the next."""
    return cast(Tensor, _BagSums.apply(rows, bags, offsets))


def pair_sums(
    user: Float[Tensor, "B F"],
    content: Float[Tensor, "C F"],
    amount: Float[Tensor, "P"],
    weight: Float[Tensor, "F"],
    row: Int64[Tensor, "P"],
    at: Int64[Tensor, "P"],
) -> Float[Tensor, "P F"]:
    """Return ``user[row] + content[at] + amount · weight``; nobody needs a gradient of ``amount``."""
    return cast(Tensor, _PairSums.apply(user, content, amount, weight, row, at))


class _PartlyLearnedProducts(Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, learned: Tensor, at: int, *weights: Tensor) -> Tensor:
        whole = torch.cat([given[:, :at], learned, given[:, at:]], dim=1)
        ctx.save_for_backward(whole, *weights)
        ctx.columns = slice(at, at + learned.shape[1])
        return torch.cat([whole @ weight.t() for weight in weights], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        whole, *weights = ctx.saved_tensors
        parts = torch.split(grad, [len(weight) for weight in weights], dim=1)
        of_learned = sum(part @ weight[:, ctx.columns] for part, weight in zip(parts, weights, strict=True))
        return None, cast(Tensor, of_learned), None, *(part.t() @ whole for part in parts)


class _BagSums(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bags: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(bags, offsets)
        ctx.rows = len(rows)
        return functional.embedding_bag(bags, rows, offsets, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bags, offsets = ctx.saved_tensors  # autograd's own way sorts them
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(bags)]))
        spread = grad.repeat_interleave(lengths, dim=0, output_size=len(bags))
        return grad.new_zeros(ctx.rows, grad.shape[1]).index_add_(0, bags, spread), None, None


class _PairSums(Function):
    @staticmethod
    def forward(
        ctx: Any, user: Tensor, content: Tensor, amount: Tensor, weight: Tensor, row: Tensor, at: Tensor
    ) -> Tensor:
        ctx.rows = len(user), len(content)
        ctx.save_for_backward(amount, row, at)
        # As weighted bags of three rows of one table: each sum is written once, and nothing in between.
        table = torch.cat([user, content, weight[None]])
        named = torch.full((len(row), 3), len(table) - 1, dtype=torch.int32)
        named[:, 0] = row
        torch.add(at, len(user), out=named[:, 1])
        amounts = amount.new_ones(len(row), 3)
        amounts[:, 2] = amount
        return functional.embedding_bag(named, table, mode="sum", per_sample_weights=amounts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        amount, row, at = ctx.saved_tensors
        user, content = (grad.new_zeros(rows, grad.shape[1]) for rows in ctx.rows)
        return user.index_add_(0, row, grad), content.index_add_(0, at, grad), None, amount @ grad, None, None
