"""Which rows an update trains on: new ones always, the rest half recent and half from everywhere (rl.md §4)."""

from typing import Final

import numpy as np
from jaxtyping import Int64

from libs.rl.replay import Replay

RECENT: Final = 0.05
"""Share of the buffer that counts as recent, if nobody says otherwise."""

_SCAN: Final = 4096  # rows up to which looking at every flag is cheaper than drawing until enough are eligible
_ROUNDS: Final = 4


def sample(
    replay: Replay, batch_size: int, rng: np.random.Generator, recent_share: float = RECENT
) -> Int64[np.ndarray, "B"]:
    """Return slots of distinct rows that train something, fewer when the buffer holds fewer.

    First the newest rows with something no gradient has seen: freshness rests on them (Combined Experience Replay,
    Zhang & Sutton, 2017, arXiv:1712.01275, which adds the newest transition to each batch). What is left is drawn half
    from the newest ``recent_share`` of the buffer, half from all rows.
    """
    batch, rows = replay.newest_dirty(batch_size), min(replay.inserted, replay.capacity)
    recent = max(1, int(recent_share * rows))
    batch = _drawn(replay, batch, recent, len(batch) + (batch_size - len(batch)) // 2, rng)
    return _drawn(replay, batch, rows, batch_size, rng)


def _drawn(replay: Replay, batch: np.ndarray, newest: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the batch, filled up to ``size`` with eligible ones of the ``newest`` rows as far as there are any."""
    for _ in range(_ROUNDS if newest > _SCAN else 0):
        if len(batch) >= size:
            return batch
        drawn = np.unique(rng.integers(0, newest, 2 * (size - len(batch))))
        batch = _extended(batch, _eligible(replay, _slots(replay, drawn, newest)), size - len(batch), rng)
    if len(batch) >= size:
        return batch
    return _extended(batch, _eligible(replay, _slots(replay, np.arange(newest), newest)), size - len(batch), rng)


def _slots(replay: Replay, places: np.ndarray, newest: int) -> np.ndarray:
    """Return the slots of places among the ``newest`` rows, oldest first."""
    return (replay.inserted - newest + places) % replay.capacity


def _eligible(replay: Replay, slots: np.ndarray) -> np.ndarray:
    eligible: np.ndarray = slots[replay.columns["eligible"][slots]]
    return eligible


def _extended(batch: np.ndarray, pool: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    pool = pool[~np.isin(pool, batch)]
    count = min(count, len(pool))
    if count <= 0:
        return batch
    return np.concatenate([batch, rng.choice(pool, count, replace=False, shuffle=False)])
