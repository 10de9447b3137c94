"""Which rows an update trains on: new ones always, the rest half recent and half from everywhere (rl.md §4)."""

from typing import Final

import numpy as np
from jaxtyping import Int64

from libs.rl.replay import Replay

RECENT: Final = 0.05
"""Share of the buffer that counts as recent."""

_SCAN: Final = 4096  # rows up to which looking at every flag is cheaper than drawing until enough are eligible
_ROUNDS: Final = 4


def sample(replay: Replay, batch_size: int, rng: np.random.Generator) -> Int64[np.ndarray, "B"]:
    """Return slots of distinct rows that train something, fewer when the buffer holds fewer.

    First the newest rows with something no gradient has seen: freshness rests on them (Combined Experience Replay,
    Zhang & Sutton, 2017, arXiv:1712.01275, which adds the newest transition to each batch). What is left is drawn half
    from the newest 5 %, half from all rows.
    """
    batch = replay.newest_dirty(batch_size)
    recent = _span(replay, max(1, int(RECENT * min(replay.inserted, replay.capacity))))
    batch = _extended(batch, _eligible(replay, recent), (batch_size - len(batch)) // 2, rng)
    return _from_everywhere(replay, batch, batch_size, rng)


def _from_everywhere(replay: Replay, batch: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    rows = min(replay.inserted, replay.capacity)
    for _ in range(_ROUNDS if rows > _SCAN else 0):
        if len(batch) == batch_size:
            return batch
        drawn = np.unique(rng.integers(0, rows, 2 * (batch_size - len(batch))))
        batch = _extended(batch, _eligible(replay, drawn), batch_size - len(batch), rng)
    if len(batch) == batch_size:
        return batch
    return _extended(batch, np.flatnonzero(replay.columns["eligible"][:rows]), batch_size - len(batch), rng)


def _span(replay: Replay, count: int) -> np.ndarray:
    """Return the slots of the newest ``count`` rows."""
    return np.arange(replay.inserted - count, replay.inserted) % replay.capacity


def _eligible(replay: Replay, slots: np.ndarray) -> np.ndarray:
    eligible: np.ndarray = slots[replay.columns["eligible"][slots]]
    return eligible


def _extended(batch: np.ndarray, pool: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    pool = pool[~np.isin(pool, batch)]
    count = min(count, len(pool))
    if count <= 0:
        return batch
    return np.concatenate([batch, rng.choice(pool, count, replace=False, shuffle=False)])
