"""The network of rl.md §2 in torch, for gradients. Its numpy form is ``scoring.py``, held equal by a test."""

from collections.abc import Mapping
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from libs.rl.features import CONTEXT
from libs.rl.gradients import JointLayers, PairIndex, joint_heads, pair_products, partly_learned_products
from libs.rl.replay import SLATE
from libs.rl.scoring import NORM_EPSILON
from libs.rl.snapshot import HIDDEN, ID_SIZE

VALUE_WEIGHTS: Final = (
    "value_in.weight",
    "value_in.bias",
    "value_norm.weight",
    "value_norm.bias",
    "value_out.weight",
    "value_out.bias",
)
"""The user tower: what the target network is a moving average of."""

_LEARNING_ONLY: Final = ("rank_bias", "popularity_share")

U, N, A_EMPTY = range(3)
"""Columns of the user tower's output."""


class RankingNetwork(nn.Module):
    """Five heads over a first layer that is split by whose input it reads.

    ``heads`` gives A and ℓ from the joint layers, to which ⟨ue, P·ce⟩ and ⟨ue, ce⟩ + b are added; the user tower gives
    U, N and A⊥ and never sees a content (a value stream of the user only: DRN, Zheng et al., WWW 2018; dueling, Wang et
    al., 2016, arXiv:1511.06581). A is not centred: it has a target of its own.
    """

    def __init__(self, vector_size: int) -> None:
        super().__init__()
        user = vector_size + ID_SIZE + CONTEXT
        self.vector_size = vector_size
        self.user_in = nn.Linear(user, HIDDEN, bias=False)
        self.content_in = nn.Linear(vector_size + ID_SIZE + 1, HIDDEN)
        self.norm_1 = nn.LayerNorm(HIDDEN, NORM_EPSILON)
        self.middle = nn.Linear(HIDDEN, HIDDEN)
        self.norm_2 = nn.LayerNorm(HIDDEN, NORM_EPSILON)
        self.heads = nn.Linear(HIDDEN, 2)
        self.mix = nn.Linear(ID_SIZE, ID_SIZE, bias=False)
        self.value_in = nn.Linear(user, HIDDEN)
        self.value_norm = nn.LayerNorm(HIDDEN, NORM_EPSILON)
        self.value_out = nn.Linear(HIDDEN, 3)
        # What a position alone attracts: learned so that it is not learned as the content's merit; 0 when serving.
        self.rank_bias = nn.Parameter(torch.zeros(SLATE))
        # How much of a content's popularity is merit rather than exposure depends on who makes the candidates: learned,
        # from the assumption of Yi et al. (2019) on, that all of it is merit.
        self.popularity_share = nn.Parameter(torch.ones(()))
        self._start_from_choice()

    def _start_from_choice(self) -> None:
        # A starts as one reward for every content, so that p·A ranks by choice until A has learned something else.
        with torch.no_grad():
            self.heads.weight[0] = 0
            self.heads.bias[0], self.heads.bias[1] = 1, 0
            self.mix.weight.zero_()
            self.value_out.weight.zero_()
            self.value_out.bias.zero_()

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that rank, by the names of the snapshot."""
        return {name: tensor for name, tensor in self.state_dict().items() if name not in _LEARNING_ONLY}

    def content_weights(self) -> tuple[Float[Tensor, "F I"], Float[Tensor, "F 1"]]:
        """Return the first layer's weights of a content: of its text and ids, and of its log-count."""
        half, log_count = torch.split(self.content_in.weight, [self.vector_size + ID_SIZE, 1], dim=1)
        return half, log_count

    def content_half(
        self, text: Float[Tensor, "C D"], ids: Float[Tensor, "C E"], weight: Float[Tensor, "F I"]
    ) -> Float[Tensor, "C F"]:
        """Return the content's share of the first layer, all but the log-count: once per content, not per pair."""
        (products,) = partly_learned_products(text.to(ids.dtype), ids, ids[:, :0], weight)
        return products + self.content_in.bias

    def user_half(
        self, text: Float[Tensor, "B D"], ids: Float[Tensor, "B E"], context: Float[Tensor, "B X"]
    ) -> tuple[Float[Tensor, "B F"], Float[Tensor, "B F"]]:
        """Return the user's share of the joint first layer, and the first layer of the user tower but for its bias."""
        given = text.to(ids.dtype), ids, context.to(ids.dtype)
        joint, tower = partly_learned_products(*given, self.user_in.weight, self.value_in.weight)
        return joint, tower

    def pairs(
        self,
        user: Float[Tensor, "B F"],
        content: Float[Tensor, "C F"],
        log_count: Float[Tensor, "P"],
        weight: Float[Tensor, "F 1"],
        pairs: PairIndex,
    ) -> tuple[Float[Tensor, "2 P"], Float[Tensor, "P F"], Float[Tensor, "P F"]]:
        """Return the joint layers' part of A and ℓ of pairs, and those layers; ``weight`` is the log-count's."""
        layers = JointLayers(
            weight[:, 0],
            *(self.norm_1.weight, self.norm_1.bias, self.middle.weight, self.middle.bias),
            *(self.norm_2.weight, self.norm_2.bias, self.heads.weight, self.heads.bias),
        )
        return joint_heads(user, content, log_count.to(user.dtype), pairs, layers)

    def id_terms(
        self, user_ids: Float[Tensor, "B E"], ids: Float[Tensor, "C W"], pairs: PairIndex
    ) -> Float[Tensor, "2 P"]:
        """Return ⟨ue, P·ce⟩ and ⟨ue, ce⟩ + b of each pair; ``ids`` has the bias as its last column."""
        return pair_products(user_ids, user_ids @ self.mix.weight, ids, pairs)

    def user_values(self, first: Float[Tensor, "B F"]) -> Float[Tensor, "B 3"]:
        """Return U, N and A⊥ of each user from the tower's share of ``user_half``."""
        values: Tensor = self.value_out(functional.relu(self.value_norm(first + self.value_in.bias)))
        return values

    def value_weights(self) -> dict[str, Tensor]:
        """Return a copy of the user tower."""
        own = self.state_dict()
        return {name: own[name].clone() for name in VALUE_WEIGHTS}


def target_values(
    weights: Mapping[str, Tensor],
    text: Float[Tensor, "B D"],
    ids: Float[Tensor, "B E"],
    context: Float[Tensor, "B X"],
) -> Float[Tensor, "B 3"]:
    """Return U, N and A⊥ of each user by the weights of the target."""
    (first,) = partly_learned_products(text.to(ids.dtype), ids, context.to(ids.dtype), weights["value_in.weight"])
    first = first + weights["value_in.bias"]
    gain, bias = weights["value_norm.weight"], weights["value_norm.bias"]
    hidden = functional.relu(functional.layer_norm(first, (HIDDEN,), gain, bias, NORM_EPSILON))
    return functional.linear(hidden, weights["value_out.weight"], weights["value_out.bias"])


def soft_update(target: Mapping[str, Tensor], online: Mapping[str, Tensor], rate: float) -> None:
    """Move the target's weights a little towards the online ones, in place."""
    for name, tensor in target.items():
        tensor.lerp_(online[name].detach(), rate)
