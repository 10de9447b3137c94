"""The slate a greedy policy would show, and what it is worth, for whole batches (rl.md §4, ``target="greedy"``).

The scores are those of ``slates.slate_scores`` under rule ``value``, held equal by a test; this form runs over rows of
a batch at once, in torch, and pads.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from libs.rl.action_space import PADDING, ActionSpace
from libs.rl.batch import Batch, Offers, without_chance
from libs.rl.id_tables import IdTables
from libs.rl.losses import discounts
from libs.rl.networks import A_EMPTY, N, RankingNetwork, U
from libs.rl.settings import AgentSettings
from libs.rl.slates import DINKELBACH_STEPS, Consumption
from libs.rl.update import Outputs, forward


def greedy_continuation(
    network: RankingNetwork,
    target: Mapping[str, Tensor],
    tables: IdTables,
    space: ActionSpace,
    batch: Batch,
    offers: Offers,
    centre: float,
    settings: AgentSettings,
) -> Float[Tensor, "B"]:
    """Return discount · value of the next request if the best slate of its offers were shown, 0 where the story ended.

    The online network chooses, the target network judges (Double DQN, van Hasselt et al., 2016, arXiv:1509.06461). Both
    read the id tables as they are, and counts as of now. A request whose candidates were not logged is worth Ū(u′).
    """
    values = torch.zeros(len(batch.slots))
    if len(batch.continued):
        request = _request(batch, offers)
        offered = torch.from_numpy(request.slate != PADDING)
        with torch.no_grad():
            chance = without_chance(request)
            online = forward(network, tables, space, request, chance, centre, serving=True)
            judge = _network_of(target, network.vector_size)
            judged = forward(judge, tables, space, request, chance, centre, serving=True)
            worth = _worth(online, judged, offered, torch.from_numpy(offers.sizes), settings.consumption)
            discount_t = torch.from_numpy(discounts(settings.gamma, batch.gap_s, settings.tau_s))
            values[torch.from_numpy(batch.continued)] = discount_t * worth
    return values


def _worth(online: Outputs, judged: Outputs, offered: Tensor, sizes: Tensor, consumption: Consumption) -> Tensor:
    shown = best_slate(online.advantage, online.choice, online.values[:, A_EMPTY], offered, sizes, consumption)
    n, a_empty = judged.values[:, N], judged.values[:, A_EMPTY]
    greedy = slate_value(judged.advantage, judged.choice, n, a_empty, shown, consumption)
    return torch.where(offered.any(dim=1), greedy, judged.values[:, U])


def _request(batch: Batch, offers: Offers) -> Batch:
    """Return the next requests as a batch of slates of everything that was offered."""
    nothing = np.zeros(offers.candidates.shape, np.bool_)
    no = np.zeros(len(offers.candidates), np.bool_)
    return replace(
        batch,
        slots=np.arange(len(offers.candidates)),
        users=batch.next_users,
        slate=offers.candidates,
        log_count=offers.log_count,
        chosen=nothing,
        rewards=nothing.astype(np.float32),
        closed=no,
        organic=no,
        settled=no,
    )


def _network_of(weights: Mapping[str, Tensor], vector_size: int) -> RankingNetwork:
    with torch.device("meta"):  # no first values: all of them are replaced
        network = RankingNetwork(vector_size)
    network.load_state_dict(weights, strict=False, assign=True)  # all but the rank bias, which nothing reads
    return network


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
