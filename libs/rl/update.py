"""What the network says of one batch: each content's half of the first layer once, each user's once, pairs from there.

The maths of rl.md §1-§4; ``benchmarks/update_step.py`` holds it equal to the same written plainly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from libs.rl.action_space import PADDING, ActionSpace
from libs.rl.batch import Batch, Draws, Users
from libs.rl.gradients import PairIndex, bag_sums, placed
from libs.rl.id_tables import IdTables
from libs.rl.losses import discounts
from libs.rl.networks import RankingNetwork, U, target_values
from libs.rl.settings import AgentSettings
from libs.rl.snapshot import ID_SIZE


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
    ``offered`` the advantage of what was offered, where a batch comes with that, ``hidden`` the joint layers by pair.
    """

    advantage: Float[Tensor, "B N"]
    choice: Float[Tensor, "B N"]
    values: Float[Tensor, "B 3"]
    organic: Float[Tensor, "O J"]
    popularity_share: Float[Tensor, ""]
    offered: Float[Tensor, "B K"]
    hidden: tuple[Float[Tensor, "P F"], Float[Tensor, "P F"]]
    leaves: Leaves


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Every (user, content) the batch asks about: the shown ones first, then what is compared, then offers."""

    row: np.ndarray
    content: np.ndarray
    log_count: np.ndarray
    shown: np.ndarray  # where the shown ones lie in the flattened slates
    compared: np.ndarray  # where the compared ones lie in the flattened draws
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
    user, tower = network.user_half(_user_texts(space, batch.users), ids, _context(batch.users))

    pairs = _pairs(batch, draws)
    kept = draws.keep_content[pairs.row]
    entries, at = _distinct(pairs.content.astype(np.int64) * 2 + kept, 2 * len(space))
    contents, content_leaf, entry_ids = _entry_ids(tables, entries)
    of_half, of_count = network.content_weights()
    half = network.content_half(_unit_texts(space, entries // 2), entry_ids[:, :ID_SIZE], of_half)
    log_count = np.where(kept, pairs.log_count, np.float32(-centre))

    index = PairIndex(torch.from_numpy(pairs.row), torch.from_numpy(at), len(user), len(half))
    joint, *hidden = network.pairs(user, half, torch.from_numpy(log_count), of_count, index)
    heads = joint + network.id_terms(ids, entry_ids, index)
    shapes = batch.slate.shape, draws.rows.shape, _offers(batch).shape
    places = tuple(map(torch.from_numpy, (pairs.shown, pairs.compared, pairs.offered)))
    advantage, choice, _, organic, offered, _ = placed(heads, places, shapes)
    return Outputs(
        advantage=advantage,
        choice=choice if serving else choice + network.rank_bias[: batch.slate.shape[1]],
        values=network.user_values(tower),
        organic=organic,
        popularity_share=network.popularity_share,
        offered=offered,
        hidden=(hidden[0], hidden[1]),
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
            texts, context = _user_texts(space, batch.next_users), _context(batch.next_users)
            value_t = target_values(target, texts, ids, context)[:, U]
            discount_t = discounts(settings.gamma, batch.gap_s, settings.tau_s)
            values[torch.from_numpy(batch.continued)] = torch.from_numpy(discount_t) * value_t
    return values


def _pairs(batch: Batch, draws: Draws) -> _Pairs:
    row, position = np.nonzero((batch.slate != PADDING) & ~batch.organic[:, None])
    compared = np.flatnonzero(draws.usable)
    own = np.repeat(draws.rows[:, 0], draws.rows.shape[1])[compared]
    others = draws.rows.ravel()[compared], draws.positions.ravel()[compared]
    source = np.concatenate([row, others[0]]), np.concatenate([position, others[1]])
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
        shown=row * batch.slate.shape[1] + position,
        compared=compared,
        offered=offered,
    )


def _offers(batch: Batch) -> np.ndarray:
    return np.zeros((len(batch.slots), 0), np.int32) if batch.offers is None else batch.offers.candidates


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


def _user_texts(space: ActionSpace, users: Users) -> Tensor:
    """Return the normalised sums of the histories' vectors, by age."""
    # Padding needs no mask: its vector is zero, and so is its weight.
    history, weights = torch.from_numpy(users.history), torch.from_numpy(users.weights)
    vectors = torch.from_numpy(space.vectors)
    text = functional.embedding_bag(history, vectors, mode="sum", per_sample_weights=weights)
    return functional.normalize(text, dim=1)


def _context(users: Users) -> Tensor:
    """Return the contexts, without columns where no request has one: those would cost a sixth of the first layer."""
    return torch.from_numpy(users.context if users.context.any() else users.context[:, :0])


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
