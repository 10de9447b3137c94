"""Rewards, declared: raw terms of interactions, and the weights that make one number of them (rl.md §5)."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
from jaxtyping import Float, Float32

from libs.rl.transitions import TERMS

DWELL_CAP_S: Final = 300.0
"""Dwell that earns the whole view term; five minutes read as "stayed"."""

_CHOICES: Final = frozenset({"click", "like"})
_WEIGHTS: Final = {"click": 1.0, "view": 0.5, "like": 1.0, "hide": 1.0, "reward": 1.0}


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """``reward = Σ weight · term``, clipped to [``low``, ``high``] for each content.

    Raises
    ------
    ValueError
        An unknown term, an empty range, or the watched ratio alone: it teaches that short contents win.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(_WEIGHTS))
    low: float = -1.0
    high: float = 2.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(TERMS))
        if unknown:
            raise ValueError(f"reward weights name unknown terms {unknown}; known: {', '.join(TERMS)}")
        if not self.low < self.high or not all(math.isfinite(w) for w in self.weights.values()):
            raise ValueError("reward weights must be finite and low below high")
        if {term for term, weight in self.weights.items() if weight} == {"ratio"}:
            raise ValueError("a reward of the watched ratio alone makes short contents win; add another term")

    @property
    def version(self) -> str:
        """Hash of the declaration: rows and snapshots made under another one say so."""
        declared = {"weights": sorted(self.weights.items()), "low": self.low, "high": self.high}
        return blake2b(json.dumps(declared).encode(), digest_size=6).hexdigest()

    def reward(self, terms: Float[np.ndarray, "*rows T"]) -> Float32[np.ndarray, "*rows"]:
        """Return the reward of each content from its raw terms (last axis as ``TERMS``)."""
        vector = np.array([self.weights.get(term, 0.0) for term in TERMS], np.float32)
        total: np.ndarray = np.clip(terms.astype(np.float32) @ vector, self.low, self.high)
        return total.astype(np.float32)


def terms_of(
    kind: str,
    dwell_ms: int | None = None,
    ratio: float | None = None,
    value: float | None = None,
    dwell_cap_s: float = DWELL_CAP_S,
) -> dict[str, float]:
    """Return the raw reward terms of one interaction; ``seen`` has none.

    >>> terms_of("view", dwell_ms=300_000, ratio=0.5)
    {'view': 1.0, 'ratio': 0.5}
    """
    if kind in _CHOICES:
        return {kind: 1.0}
    if kind == "view":
        dwell = min(1.0, math.log1p((dwell_ms or 0) / 1000) / math.log1p(dwell_cap_s))
        return {"view": dwell} | ({} if ratio is None else {"ratio": ratio})
    if kind == "hide":
        return {"hide": -1.0}
    if kind == "reward":
        return {"reward": float(value or 0.0)}
    return {}


def is_choice(kind: str) -> bool:
    """Tell whether an interaction of this kind counts as consumption in the choice model."""
    return kind in _CHOICES


def moves_history(kind: str, dwell_ms: int | None, min_dwell_ms: int) -> bool:
    """Tell whether an interaction belongs into the user's recently consumed contents."""
    return kind in _CHOICES or (kind == "view" and (dwell_ms or 0) >= min_dwell_ms)
