"""The loss of one batch: each content's half of the first layer once, each user's once, pairs from there.

The maths of rl.md §1-§4; ``benchmarks/update_step.py`` holds it equal to the same written plainly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from libs.rl import losses
from libs.rl.action_space import PADDING, ActionSpace
from libs.rl.batch import Batch, Draws, Users
from libs.rl.gradients import bag_sums
from libs.rl.id_tables import IdTables
from libs.rl.networks import A_EMPTY, N, RankingNetwork, U, target_values
from libs.rl.settings import AgentSettings
from libs.rl.snapshot import HIDDEN, ID_SIZE


@dataclass(frozen=True, slots=True)
class Leaves:
    """Rows of the id tables that a batch touches, and the tensors in which their gradient arrives."""

    histories: Int64[Tensor, "R"]
    user: Float[Tensor, "R E"]
    contents: Int64[Tensor, "C"]
    content: Float[Tensor, "C W"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the network says of a batch: by row and position, by row, and by compared content and alternative.

    ``popularity_share`` is how much of a content's frequency among the alternatives is taken out of the comparison,
    ``offered`` the advantage of what was offered, where a batch comes with that.
    """

    advantage: Float[Tensor, "B N"]
    choice: Float[Tensor, "B N"]
    values: Float[Tensor, "B 3"]
    organic: Float[Tensor, "O J"]
    popularity_share: Float[Tensor, ""]
    offered: Float[Tensor, "B K"]
    leaves: Leaves


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Every (user, content) the batch asks about: the shown ones first, then what is compared, then offers."""

    row: np.ndarray
    content: np.ndarray
    log_count: np.ndarray
    grid: np.ndarray  # where the shown ones lie in the flattened slates
    offered: np.ndarray  # where the offered ones lie in the flattened offers


def forward(
    network: RankingNetwork,
    tables: IdTables,
    space: ActionSpace,
    batch: Batch,
    draws: Draws,
    centre: float,
    serving: bool = False,
) -> Outputs:
    """Return the network's outputs for a batch, differentiable in its weights and in the touched id rows.

    ``serving`` leaves out the rank bias, as a ranking does.
    """
    histories, bags, offsets = _bags(batch.users, len(space))
    user_leaf = tables.user.index_select(0, histories).requires_grad_()
    ids = bag_sums(user_leaf, bags, offsets) * (_scale(batch.users) * torch.from_numpy(draws.keep_user)[:, None])
    user, tower = torch.split(network.user_half(_user_features(space, batch.users), ids), HIDDEN, dim=1)

    pairs = _pairs(batch, draws)
    kept = draws.keep_content[pairs.row]
    entries, at = _distinct(pairs.content.astype(np.int64) * 2 + kept, 2 * len(space))
    contents, content_leaf, entry_ids = _entry_ids(tables, entries)
    half = network.content_half(_unit_texts(space, entries // 2), entry_ids[:, :ID_SIZE])
    log_count = np.where(kept, pairs.log_count, np.float32(-centre))

    row_t, at_t = torch.from_numpy(pairs.row), torch.from_numpy(at)
    heads = network.pairs(user, half, torch.from_numpy(log_count), row_t, at_t)
    heads = heads + network.id_terms(ids, entry_ids, row_t, at_t)
    shown, compared, offered = torch.split(heads, [len(pairs.grid), draws.rows.size, len(pairs.offered)])
    advantage, choice = _spread(shown, pairs.grid, batch.slate.shape).unbind(2)
    return Outputs(
        advantage=advantage,
        choice=choice if serving else choice + network.rank_bias[: batch.slate.shape[1]],
        values=network.user_values(tower),
        organic=compared[:, 1].view(draws.rows.shape),
        popularity_share=network.popularity_share,
        offered=_spread(offered, pairs.offered, _offers(batch).shape)[:, :, 0],
        leaves=Leaves(histories, user_leaf, contents, content_leaf),
    )


def continuation_values(
    target: Mapping[str, Tensor], tables: IdTables, space: ActionSpace, batch: Batch, settings: AgentSettings
) -> Float[Tensor, "B"]:
    """Return discount · Ū(u′) of each row, 0 where the story ended: the target network on the *next* state."""
    values = torch.zeros(len(batch.slots))
    if len(batch.continued):
        with torch.no_grad():
            history = torch.from_numpy(batch.next_users.history)
            ids = functional.embedding_bag(history, tables.user, mode="sum") * _scale(batch.next_users)
            value_t = target_values(target, _user_features(space, batch.next_users), ids)[:, U]
            discount_t = losses.discounts(settings.gamma, torch.from_numpy(batch.gap_s), settings.tau_s)
            values[torch.from_numpy(batch.continued)] = discount_t * value_t
    return values


def loss_parts(
    outputs: Outputs, continuation: Float[Tensor, "B"], batch: Batch, draws: Draws, settings: AgentSettings
) -> dict[str, Tensor]:
    """Return the parts of the loss by name; the gradient is that of ``total``."""
    chosen, settled = torch.from_numpy(batch.chosen), torch.from_numpy(batch.settled)
    rewards, values = torch.from_numpy(batch.rewards), outputs.values
    above = continuation - values[:, N].detach()  # what the story was worth above expectation
    parts = {
        "u": _huber_mean(values[:, U], rewards.sum(dim=1) + continuation, settled),
        "n": _huber_mean(values[:, N], continuation, settled),
        "a": _huber_mean(outputs.advantage, rewards + above[:, None], chosen & settled[:, None]),
        "a_empty": _huber_mean(values[:, A_EMPTY], above, settled & ~chosen.any(dim=1)),
        "choice": _choice_loss(outputs, batch, settings),
        "organic": _organic_loss(outputs, draws),
    }
    if batch.offers is not None:
        parts["conservative"] = _conservative_loss(outputs, batch)
    weights = {
        "choice": settings.beta,
        "organic": settings.beta * settings.organic_weight,
        "conservative": settings.cql_weight,
    }
    total = torch.stack([weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
    return {"total": total, **parts}


def _choice_loss(outputs: Outputs, batch: Batch, settings: AgentSettings) -> Tensor:
    logits, chosen = outputs.choice, torch.from_numpy(batch.chosen)
    shown = torch.from_numpy(batch.slate != PADDING)
    own = losses.bernoulli_loss if settings.consumption == "multi" else losses.conditional_logit_loss
    opened = losses.slate_softmax_loss(logits, chosen, shown)
    loss = torch.where(torch.from_numpy(batch.closed), own(logits, chosen, shown), opened)
    return losses.masked_mean(loss, torch.from_numpy(~batch.organic))


def _organic_loss(outputs: Outputs, draws: Draws) -> Tensor:
    log_sampling, usable = torch.from_numpy(draws.log_sampling), torch.from_numpy(draws.usable)
    loss = losses.in_batch_softmax_loss(outputs.organic, outputs.popularity_share * log_sampling, usable)
    return loss.sum() / max(len(loss), 1)


def _huber_mean(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return losses.masked_mean(losses.huber(prediction, target.detach()), mask)


def _conservative_loss(outputs: Outputs, batch: Batch) -> Tensor:
    """Return by how much the offers' advantages exceed the consumed one's (mean over consumptions)."""
    learned = torch.from_numpy(batch.chosen & batch.settled[:, None])
    offered = torch.from_numpy(_offers(batch) != PADDING)
    learned = learned & offered.any(dim=1, keepdim=True)
    largest = losses.soft_maximum(outputs.offered, offered)
    return losses.masked_mean(largest[:, None] - outputs.advantage, learned)


def _pairs(batch: Batch, draws: Draws) -> _Pairs:
    row, position = np.nonzero((batch.slate != PADDING) & ~batch.organic[:, None])
    own = np.repeat(draws.rows[:, :1].ravel(), draws.rows.shape[1])
    source = np.concatenate([row, draws.rows.ravel()]), np.concatenate([position, draws.positions.ravel()])
    rows, contents, counts = [row, own], [batch.slate[source]], [batch.log_count[source]]
    offered = np.zeros(0, np.int64)
    if batch.offers is not None:
        by, place = np.nonzero(batch.offers.candidates)
        rows.append(by)
        contents.append(batch.offers.candidates[by, place])
        counts.append(batch.offers.log_count[by, place])
        offered = by * batch.offers.candidates.shape[1] + place
    return _Pairs(
        row=np.concatenate(rows),
        content=np.concatenate(contents),
        log_count=np.concatenate(counts),
        grid=row * batch.slate.shape[1] + position,
        offered=offered,
    )


def _offers(batch: Batch) -> np.ndarray:
    return np.zeros((len(batch.slots), 0), np.int32) if batch.offers is None else batch.offers.candidates


def _spread(pairs: Tensor, places: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Return what was computed for pairs where they lie in a grid, 0 elsewhere."""
    empty = pairs.new_zeros(int(np.prod(shape)), pairs.shape[1])
    return empty.index_copy(0, torch.from_numpy(places), pairs).view(*shape, pairs.shape[1])


def _distinct(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, all below ``size``, and where each value lies among them; a sort costs ten times."""
    seen = np.zeros(size, np.bool_)
    seen[values] = True
    distinct = np.flatnonzero(seen)
    place = np.empty(size, np.int64)  # read only where it was written
    place[distinct] = np.arange(len(distinct))
    return distinct, place[values]


def _bags(users: Users, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return distinct contents of all histories, each history's as positions among them, and where each begins."""
    known = users.history != PADDING
    distinct, inverse = _distinct(users.history[known], size)
    lengths = known.sum(axis=1)
    return torch.from_numpy(distinct), torch.from_numpy(inverse), torch.from_numpy(np.cumsum(lengths) - lengths)


def _scale(users: Users) -> Tensor:
    """Return 1/√n of histories of n contents: longer ones are surer, but not linearly."""
    lengths = np.count_nonzero(users.history, axis=1, keepdims=True)
    return torch.from_numpy(1 / np.sqrt(np.maximum(lengths, 1), dtype=np.float32))


def _user_features(space: ActionSpace, users: Users) -> Tensor:
    """Return what of the user's input is given rather than learned: text and context."""
    # Padding needs no mask: its vector is zero, and so is its weight.
    history, weights = torch.from_numpy(users.history), torch.from_numpy(users.weights)
    vectors = torch.from_numpy(space.vectors)
    text = functional.embedding_bag(history, vectors, mode="sum", per_sample_weights=weights)
    return torch.cat([functional.normalize(text, dim=1), torch.from_numpy(users.context)], dim=1)


def _entry_ids(tables: IdTables, entries: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct contents, their rows as a leaf, and the rows by entry: nothing where ids are dropped."""
    first = np.diff(entries // 2, prepend=-1) != 0
    contents = torch.from_numpy(entries[first] // 2)
    leaf = tables.content.index_select(0, contents).requires_grad_()
    kept = torch.from_numpy((entries % 2).astype(np.float32))
    return contents, leaf, leaf.index_select(0, torch.from_numpy(np.cumsum(first) - 1)) * kept[:, None]


def _unit_texts(space: ActionSpace, contents: np.ndarray) -> Tensor:
    named = torch.from_numpy(contents)
    lengths = torch.from_numpy(space.inverse_norm).index_select(0, named)
    return torch.from_numpy(space.vectors).index_select(0, named).mul_(lengths[:, None])
