"""From slots of the replay buffer to the arrays of one update."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from libs.rl.action_space import PADDING
from libs.rl.features import age_weights, log_counts
from libs.rl.popularity import Popularity
from libs.rl.replay import Replay, Status
from libs.rl.rewards import RewardSpec

ALTERNATIVES: Final = 15
"""Other consumed contents of the batch that a consumed one is compared with."""


@dataclass(frozen=True, slots=True)
class Users:
    """States by index: ``history`` is 0 where it ends, ``weights`` are those of the text by age."""

    history: Int32[np.ndarray, "B H"]
    weights: Float32[np.ndarray, "B H"]
    context: Float32[np.ndarray, "B X"]


@dataclass(frozen=True, slots=True)
class Offers:
    """What requests chose from: ``candidates`` by index, 0 where there are no more, and how many were shown.

    A row logs the log-counts of its slate alone: ``log_count`` is of now.
    """

    candidates: Int32[np.ndarray, "C K"]
    log_count: Float32[np.ndarray, "C K"]
    sizes: Int64[np.ndarray, "C"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as an update reads them; an organic row is a slate of one that trains the choice head alone.

    ``settled`` rows have a known future: none, or, for the rows in ``continued``, ``next_users`` after ``gap_s``.
    ``offers`` are there where what was offered and not consumed is to be learned from.
    """

    slots: Int64[np.ndarray, "B"]
    users: Users
    slate: Int32[np.ndarray, "B N"]
    log_count: Float32[np.ndarray, "B N"]
    chosen: Bool[np.ndarray, "B N"]
    rewards: Float32[np.ndarray, "B N"]
    closed: Bool[np.ndarray, "B"]
    organic: Bool[np.ndarray, "B"]
    settled: Bool[np.ndarray, "B"]
    continued: Int64[np.ndarray, "C"]
    gap_s: Float32[np.ndarray, "C"]
    next_users: Users
    offers: Offers | None = None


@dataclass(frozen=True, slots=True)
class Draws:
    """What one update leaves to chance.

    ``keep_user`` and ``keep_content`` are false for rows that see no ids of the history and of the slate. Column 0 of
    ``rows`` and ``positions`` names consumed contents, of every organic row and of a share of the others; each is
    compared, for that row's user, with the contents of its other columns where ``usable``. ``log_sampling`` says up to
    a constant how likely a content is to come up.
    """

    keep_user: Bool[np.ndarray, "B"]
    keep_content: Bool[np.ndarray, "B"]
    rows: Int64[np.ndarray, "O J"]
    positions: Int64[np.ndarray, "O J"]
    usable: Bool[np.ndarray, "O J"]
    log_sampling: Float32[np.ndarray, "O J"]


def offers_of(replay: Replay, slots: Int64[np.ndarray, "C"], popularity: Popularity) -> Offers:
    """Return what the requests in ``slots`` chose from."""
    candidates = replay.columns["candidates"][slots]
    sizes = np.count_nonzero(replay.columns["slate"][slots], axis=1).astype(np.int64)
    return Offers(candidates, log_counts(popularity.consumptions[candidates], popularity.centre), sizes)


def next_offers(replay: Replay, batch: Batch, popularity: Popularity) -> Offers:
    """Return what the next requests of the rows in ``batch.continued`` chose from."""
    continuation = replay.columns["continuation"][batch.slots[batch.continued]]
    return offers_of(replay, continuation % replay.capacity, popularity)


def gather(replay: Replay, slots: Int64[np.ndarray, "B"], rewards: RewardSpec) -> Batch:
    """Return the rows in ``slots``, their rewards as declared now, and the states their stories went on with."""
    columns = replay.columns
    status, continuation = columns["status"][slots], columns["continuation"][slots]
    went_on = (status == Status.CONTINUED) & replay.alive(continuation)
    continued = np.flatnonzero(went_on)
    slate = columns["slate"][slots]
    width = max(1, int(np.count_nonzero(slate, axis=1).max(initial=1)))
    return Batch(
        slots=slots,
        users=_users(replay, slots),
        slate=slate[:, :width],
        log_count=columns["log_count"][slots, :width].astype(np.float32),
        chosen=columns["chosen"][slots, :width],
        rewards=rewards.reward(columns["terms"][slots, :width]),
        closed=(status == Status.ENDED) | (status == Status.CONTINUED),
        organic=status == Status.ORGANIC,
        settled=(status == Status.ENDED) | went_on,
        continued=continued,
        gap_s=columns["gap_s"][slots[continued]],
        next_users=_users(replay, continuation[continued] % replay.capacity),
    )


def thinned(batch: Batch, share: float, rng: np.random.Generator) -> Batch:
    """Return the batch with a share of each row's history forgotten, each content by its own chance."""
    if share == 0:
        return batch
    forgotten = rng.random(batch.users.history.shape) < share
    history = np.where(forgotten, np.int32(PADDING), batch.users.history)
    weights = np.where(forgotten, np.float32(0), batch.users.weights)
    return replace(batch, users=Users(history, weights, batch.users.context))


def draw(
    batch: Batch,
    consumptions: Int64[np.ndarray, "M"],
    id_dropout: float,
    rng: np.random.Generator,
    compared: float = 0.0,
) -> Draws:
    """Return the chances of one update; ``consumptions`` is by content index, ``compared`` as in the settings."""
    keep = rng.random((2, len(batch.slots))) >= id_dropout
    own, own_positions = _compared(batch, compared, rng)
    rows, positions = np.nonzero(batch.chosen)
    others = rng.integers(0, len(rows), (len(own), ALTERNATIVES)) if len(own) else np.zeros((0, 0), np.int64)
    all_rows = np.concatenate([own[:, None], rows[others]], axis=1)
    all_positions = np.concatenate([own_positions[:, None], positions[others]], axis=1)
    contents = batch.slate[all_rows, all_positions]
    usable = contents != contents[:, :1]
    usable[:, :1] = True
    log_sampling = np.log(np.maximum(consumptions[contents], 1)).astype(np.float32)
    return Draws(keep[0], keep[1], all_rows, all_positions, usable, log_sampling)


def _compared(batch: Batch, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, every organic one and a share of the others that have a consumption, with one position consumed."""
    if share == 0:
        organic = np.flatnonzero(batch.organic)
        return organic, np.zeros_like(organic)
    rows = np.flatnonzero(batch.organic | (batch.chosen.any(axis=1) & (rng.random(len(batch.slots)) < share)))
    return rows, np.argmax(batch.chosen[rows] * rng.random((len(rows), batch.chosen.shape[1])), axis=1)


def without_chance(batch: Batch) -> Draws:
    """Return the draws of a pass in which all ids are seen and nothing organic is compared."""
    seen, none = np.ones(len(batch.slots), np.bool_), np.zeros((0, 1), np.int64)
    return Draws(seen, seen, none, none, none.astype(np.bool_), none.astype(np.float32))


def _users(replay: Replay, slots: np.ndarray) -> Users:
    history = replay.columns["history"][slots]
    weights = age_weights(replay.columns["age_h"][slots].astype(np.float32) * np.float32(3600))
    weights[history == PADDING] = 0
    return Users(history, weights, replay.columns["context"][slots].astype(np.float32))
