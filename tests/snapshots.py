"""Snapshots with random weights, for tests that rank and need no learner."""

from collections.abc import Sequence

import numpy as np

from libs.rl.snapshot import ID_SIZE, Snapshot, layout, make_config


def random_snapshot(
    content_ids: Sequence[int], vector_size: int, consumption: str = "multi", seed: int = 0
) -> Snapshot:
    """Return a snapshot whose scores differ from content to content and from user to user."""
    rng = np.random.default_rng(seed)
    config = make_config(vector_size, consumption)
    rows = (len(content_ids), ID_SIZE)
    weights = {
        name: (rng.normal(size=shape) * 0.3 + (name.startswith("norm") or "norm.weight" in name)).astype(np.float32)
        for name, shape in layout(config).items()
    }
    return Snapshot(
        weights=weights,
        content_ids=np.array(content_ids, np.int64),
        user_rows=rng.normal(size=rows).astype(np.float32),
        content_rows=rng.normal(size=rows).astype(np.float32),
        biases=rng.normal(size=len(content_ids)).astype(np.float32),
        consumptions=rng.integers(0, 50, len(content_ids)).astype(np.int64),
        config=config,
    )
