"""Content vectors as databases keep them: float32 octets of moard's own, JSON text in the legacy table."""

import math
from collections.abc import Sequence

import numpy as np
import orjson

_MAX = float(np.finfo(np.float32).max)


def to_octets(embedding: Sequence[float], size: int) -> bytes:
    """Return little-endian float32; raises ``ValueError`` unless there are ``size`` finite values."""
    if not _usable(embedding, size):
        raise ValueError(f"a vector must be {size} finite numbers")
    return np.asarray(embedding, dtype="<f4").tobytes()


def from_octets(octets: bytes, size: int) -> tuple[float, ...] | None:
    """Return the vector, None when the octets are not ``size`` finite values.

    >>> from_octets(to_octets([0.5, -2.0], 2), 2)
    (0.5, -2.0)
    >>> from_octets(b"broken", 2)
    """
    if len(octets) != 4 * size:
        return None
    values: list[float] = np.frombuffer(octets, dtype="<f4").tolist()
    return tuple(values) if _usable(values, size) else None


def from_json(text: str | bytes, size: int) -> tuple[float, ...] | None:
    """Return the vector of a JSON array, None when it is anything else than ``size`` finite numbers.

    >>> from_json("[1, 0.5]", 2)
    (1.0, 0.5)
    >>> [from_json(text, 2) for text in ("[1]", "[1, NaN]", '["1", "2"]', "[true, 1]", "{}", "")]
    [None, None, None, None, None, None]
    """
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    return tuple(map(float, values)) if _usable(values, size) else None


def _usable(values: Sequence[float], size: int) -> bool:
    # What float32 cannot hold would be infinite behind the next conversion.
    return len(values) == size and all(math.isfinite(value) and abs(value) <= _MAX for value in values)
