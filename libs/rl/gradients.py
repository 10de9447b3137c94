"""Steps of an update whose gradient by hand takes fewer passes over memory than the one autograd would take.

Ordinary differentiable functions of tensors; a test checks their gradients in double precision. Sums of rows by index
are bags of rows sorted by it: each is written once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from libs.rl.scoring import NORM_EPSILON


@dataclass(frozen=True)
class Groups:
    """The places at which each of ``size`` values stands in an index: in ``order``, those of a value from its start."""

    order: Int64[Tensor, "P"]
    starts: Int64[Tensor, "S"]

    @classmethod
    def of(cls, index: Int64[Tensor, "P"], size: int) -> "Groups":
        """Return the places of each value below ``size``."""
        values = index.numpy()
        short = values.astype(np.uint16) if size <= 1 << 16 else values  # sorted by radix
        counts = np.bincount(values, minlength=size)
        return cls(torch.from_numpy(np.argsort(short, kind="stable")), torch.from_numpy(np.cumsum(counts) - counts))

    def sums(self, rows: Float[Tensor, "P E"]) -> Float[Tensor, "S E"]:
        """Return the sum of the rows of each value."""
        return functional.embedding_bag(self.order, rows, self.starts, mode="sum")


@dataclass(frozen=True)
class PairIndex:
    """Which of ``rows`` users and which of ``contents`` contents each pair is of."""

    row: Int64[Tensor, "P"]
    at: Int64[Tensor, "P"]
    rows: int
    contents: int

    @cached_property
    def by_row(self) -> Groups:
        """Return the pairs of each user."""
        return Groups.of(self.row, self.rows)

    @cached_property
    def by_content(self) -> Groups:
        """Return the pairs of each content."""
        return Groups.of(self.at, self.contents)


class JointLayers(NamedTuple):
    """The weights of two hidden layers and of the heads over them; ``weight`` is that of the amount in the first."""

    weight: Float[Tensor, "F"]
    gain_1: Float[Tensor, "F"]
    bias_1: Float[Tensor, "F"]
    middle: Float[Tensor, "F F"]
    middle_bias: Float[Tensor, "F"]
    gain_2: Float[Tensor, "F"]
    bias_2: Float[Tensor, "F"]
    heads: Float[Tensor, "2 F"]
    heads_bias: Float[Tensor, "2"]


def partly_learned_products(
    before: Float[Tensor, "B G"], learned: Float[Tensor, "B E"], after: Float[Tensor, "B X"], *weights: Tensor
) -> tuple[Float[Tensor, "B F"], ...]:
    """Return the product of each of the weights [F, W] and an input of which the middle columns are learned.

    Nobody needs a gradient of what is given: that product is a third of what all of them together cost. Where the input
    has fewer columns than the weights, the others are as if they were 0.
    """
    return cast(tuple[Tensor, ...], _PartlyLearnedProducts.apply(before, learned, after, *weights))


def placed(
    pairs: Float[Tensor, "2 P"], places: Sequence[Tensor], shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, ...]:
    """Return two grids for each shape, in which the next pairs stand at their places, and 0 elsewhere."""
    return cast(tuple[Tensor, ...], _Placed.apply(pairs, places, shapes))


def bag_sums(rows: Float[Tensor, "R E"], bags: Int64[Tensor, "M"], offsets: Int64[Tensor, "B"]) -> Float[Tensor, "B E"]:
    """Return the sum of the rows that ``bags`` names from each of ``offsets`` to the next."""
    return cast(Tensor, _BagSums.apply(rows, bags, offsets))


def joint_heads(
    user: Float[Tensor, "B F"],
    content: Float[Tensor, "C F"],
    amount: Float[Tensor, "P"],
    pairs: PairIndex,
    layers: JointLayers,
) -> tuple[Float[Tensor, "2 P"], Float[Tensor, "P F"], Float[Tensor, "P F"]]:
    """Return two heads over two hidden layers of ``user + content + amount · weight`` of pairs, and those layers.

    Nobody needs a gradient of ``amount``; that of the hidden layers themselves is not known.
    """
    heads, first, second = _JointHeads.apply(amount, pairs, user, content, *layers)
    return heads, first, second


def pair_products(
    user: Float[Tensor, "B E"],
    mixed: Float[Tensor, "B E"],
    content: Float[Tensor, "C W"],
    pairs: PairIndex,
) -> Float[Tensor, "2 P"]:
    """Return of pairs ⟨mixed, content⟩, and ⟨user, content⟩ plus what stands in the content's last column."""
    return cast(Tensor, _PairProducts.apply(user, mixed, content, pairs))


def gradient_of(leaf: Tensor) -> Tensor:
    """Return what came back to a leaf, zeros where nothing did."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


class _PartlyLearnedProducts(Function):
    @staticmethod
    def forward(ctx: Any, before: Tensor, learned: Tensor, after: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        whole = torch.cat([before, learned, after], dim=1)
        ctx.save_for_backward(whole, *weights)
        ctx.columns = slice(before.shape[1], before.shape[1] + learned.shape[1])
        return tuple(whole @ weight[:, : whole.shape[1]].t() for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        whole, *weights = ctx.saved_tensors
        of_learned = sum(grad @ weight[:, ctx.columns] for grad, weight in zip(grads, weights, strict=True))
        unused = weights[0].shape[1] - whole.shape[1]
        of_weights = (grad.t() @ whole for grad in grads)
        return None, cast(Tensor, of_learned), None, *(functional.pad(each, (0, unused)) for each in of_weights)


class _BagSums(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bags: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(bags, offsets)
        ctx.rows = len(rows)
        return functional.embedding_bag(bags, rows, offsets, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bags, offsets = ctx.saved_tensors
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(bags)]))
        bag_of = torch.repeat_interleave(lengths, output_size=len(bags))
        places = Groups.of(bags, ctx.rows)
        return Groups(bag_of.index_select(0, places.order), places.starts).sums(grad), None, None


class _JointHeads(Function):
    @staticmethod
    def forward(ctx: Any, amount: Tensor, pairs: PairIndex, user: Tensor, content: Tensor, *flat: Tensor) -> Any:
        layers = JointLayers(*flat)
        first = _pair_sums(user, content, amount, layers.weight, pairs)
        hidden_1, moments_1 = _normalised(first, layers.gain_1, layers.bias_1)
        second = torch.addmm(layers.middle_bias, hidden_1, layers.middle.t())
        hidden_2, moments_2 = _normalised(second, layers.gain_2, layers.bias_2)
        ctx.pairs = pairs
        ctx.save_for_backward(*flat, amount, first, *moments_1, hidden_1, second, *moments_2, hidden_2)
        ctx.mark_non_differentiable(hidden_1, hidden_2)
        ctx.set_materialize_grads(False)  # of the layers: each would be a megabyte of zeros that nobody reads
        return (layers.heads @ hidden_2.t()).add_(layers.heads_bias[:, None]), hidden_1, hidden_2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        layers, saved = JointLayers(*ctx.saved_tensors[:9]), ctx.saved_tensors[9:]
        amount, first, mean_1, scale_1, hidden_1, second, mean_2, scale_2, hidden_2 = saved
        heads = grad @ hidden_2, grad.sum(dim=1)
        whole = grad.t() @ layers.heads
        whole, *norm_2 = _through(whole, hidden_2, second, (mean_2, scale_2), layers.gain_2, layers.bias_2)
        middle = whole.t() @ hidden_1, whole.sum(dim=0)
        whole = whole @ layers.middle
        whole, *norm_1 = _through(whole, hidden_1, first, (mean_1, scale_1), layers.gain_1, layers.bias_1)
        of_layers = (amount @ whole, *norm_1, *middle, *norm_2, *heads)  # in the order of JointLayers
        return None, None, ctx.pairs.by_row.sums(whole), ctx.pairs.by_content.sums(whole), *of_layers


def _pair_sums(user: Tensor, content: Tensor, amount: Tensor, weight: Tensor, pairs: PairIndex) -> Tensor:
    # As weighted bags of three rows of one table: each sum is written once, and nothing in between.
    table = torch.cat([user, content, weight[None]])
    named = torch.full((len(amount), 3), len(table) - 1, dtype=torch.int32)
    named[:, 0] = pairs.row
    torch.add(pairs.at, len(user), out=named[:, 1])
    amounts = amount.new_ones(len(amount), 3)
    amounts[:, 2] = amount
    return functional.embedding_bag(named, table, mode="sum", per_sample_weights=amounts)


def _normalised(whole: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the rectified layer norm, and the moments its gradient asks for."""
    hidden, mean, scale = torch.native_layer_norm(whole, gain.shape, gain, bias, NORM_EPSILON)
    return hidden.relu_(), (mean, scale)


def _through(
    grad: Tensor, hidden: Tensor, whole: Tensor, moments: tuple[Tensor, Tensor], gain: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of what was normalised, of gain and of bias; overwrite ``grad``, that of ``hidden``."""
    # In place: one more array of this size and the second-level cache no longer holds what is worked on.
    torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
    return cast(
        tuple[Tensor, Tensor, Tensor],
        torch.ops.aten.native_layer_norm_backward(grad, whole, gain.shape, *moments, gain, bias, [True, True, True]),
    )


class _PairProducts(Function):
    @staticmethod
    def forward(ctx: Any, user: Tensor, mixed: Tensor, content: Tensor, pairs: PairIndex) -> Tensor:
        ctx.pairs = pairs
        ctx.save_for_backward(user, mixed, content)
        size = user.shape[1]
        of_users = torch.cat([mixed, user], dim=1).index_select(0, pairs.row).view(-1, 2, size)
        of_contents = content.index_select(0, pairs.at)
        products = torch.bmm(of_users, of_contents[:, :size, None])[:, :, 0].t().contiguous()
        products[1] += of_contents[:, size]
        return products

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        user, mixed, content = ctx.saved_tensors
        pairs, vectors = ctx.pairs, content[:, :-1].contiguous()
        rows, contents = pairs.by_row, pairs.by_content
        named, by_row = pairs.at.index_select(0, rows.order), grad.index_select(1, rows.order)
        of_mixed, of_user = (_weighted_sums(named, vectors, rows.starts, amount) for amount in by_row)
        # A content's two sums are one bag, of rows of both tables in turn.
        of = pairs.row.index_select(0, contents.order)
        both, amounts = torch.stack([of, of + len(user)], dim=1).view(-1), grad.t().index_select(0, contents.order)
        of_vectors = _weighted_sums(both, torch.cat([mixed, user]), 2 * contents.starts, amounts.reshape(-1))
        of_last = grad.new_zeros(len(content)).index_add_(0, pairs.at, grad[1])
        return of_user, of_mixed, torch.cat([of_vectors, of_last[:, None]], dim=1), None


def _weighted_sums(named: Tensor, table: Tensor, starts: Tensor, amounts: Tensor) -> Tensor:
    return functional.embedding_bag(named, table, starts, mode="sum", per_sample_weights=amounts)


class _Placed(Function):
    @staticmethod
    def forward(ctx: Any, pairs: Tensor, places: Sequence[Tensor], shapes: Sequence[tuple[int, int]]) -> Any:
        ctx.places = places
        parts = torch.split(pairs, [len(place) for place in places], dim=1)
        grids: list[Tensor] = []
        for part, place, (rows, columns) in zip(parts, places, shapes, strict=True):
            grid = pairs.new_zeros(2, rows * columns).index_copy_(1, place, part)
            grids += grid.view(2, rows, columns).unbind()
        return tuple(grid.clone() for grid in grids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        of_pairs = [
            torch.stack([grad.reshape(-1).index_select(0, place) for grad in grads[2 * at : 2 * at + 2]])
            for at, place in enumerate(ctx.places)
        ]
        return torch.cat(of_pairs, dim=1), None, None
