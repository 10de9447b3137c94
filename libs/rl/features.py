"""From what was logged to what the network reads: one definition for learner and serving (rl.md §2)."""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np
from jaxtyping import Float, Float32, Int64

HISTORY = 30
"""Recently consumed contents that make the state."""

CONTEXT = 64
"""Floats of a request's context."""

CONTEXT_LIMIT = 1e4
"""Largest context value: half precision holds it in the replay buffer, and anything above is a wrong unit."""

_HOUR_S = 3600.0
_DECAY = 0.9  # per hour, the legacy server's user vector


def age_weights(age_s: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Return what a content consumed ``age_s`` ago weighs in the user's text vector.

    >>> age_weights(np.array([0.0, 3600.0])).tolist()
    [1.0, 0.8999999761581421]
    """
    hours: np.ndarray = np.maximum(age_s, 0.0) / _HOUR_S
    weights: np.ndarray = np.power(_DECAY, hours)
    return weights.astype(np.float32)


def encode_context(context: Mapping[str, float | str], numbers: tuple[str, ...] = ()) -> Float32[np.ndarray, "X=64"]:
    """Return a request's context as ``CONTEXT`` floats.

    Declared ``numbers`` stand in the first slots as they are. Strings, and numbers nobody declared, go to the slots
    behind them by signed hashing (Weinberger et al., 2009, arXiv:0902.2206), the same in every process.

    >>> encode_context({"hour": 7.0}, ("hour",))[:2].tolist()
    [7.0, 0.0]
    """
    encoded = np.zeros(CONTEXT, np.float32)
    declared = {name: slot for slot, name in enumerate(numbers[:CONTEXT])}
    free = CONTEXT - len(declared)
    for name, value in context.items():
        if isinstance(value, str):
            key, amount = f"{name}={value}", 1.0
        elif name in declared:
            encoded[declared[name]] = value if abs(value) <= CONTEXT_LIMIT else np.copysign(CONTEXT_LIMIT, value)
            continue
        else:
            key, amount = name, float(np.clip(value, -CONTEXT_LIMIT, CONTEXT_LIMIT))
        if free:
            slot, sign = _hashed(key, free)
            encoded[len(declared) + slot] += sign * amount
    return encoded


def popularity_centre(consumptions: Int64[np.ndarray, "M"]) -> float:
    """Return the log-count of the content that a typical consumption is of: the zero point of ``log_counts``.

    Weighted by consumption, so that a catalogue full of contents nobody ever saw does not move it.
    """
    total = int(consumptions.sum())
    return float((consumptions * np.log1p(consumptions)).sum() / total) if total else 0.0


def log_counts(consumptions: Int64[np.ndarray, "*shape"], centre: float) -> Float32[np.ndarray, "*shape"]:
    """Return ``log(1 + consumptions)``, centred: a global offset, never one over the candidates of a request."""
    centred: np.ndarray = np.log1p(consumptions) - centre
    return centred.astype(np.float32)


def _hashed(key: str, slots: int) -> tuple[int, float]:
    digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")
    return (digest >> 1) % slots, 1.0 if digest & 1 else -1.0
