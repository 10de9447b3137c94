"""Hidden units that have gone quiet: capacity a network has lost without any loss saying so (rl.md §10)."""

from typing import Final

from jaxtyping import Float
from torch import Tensor

DORMANT: Final = 0.1
"""Share of its layer's mean activation at which a unit counts as dormant."""


def dormant_share(activations: Float[Tensor, "P F"]) -> float:
    """Return the share of a layer's units that are dormant.

    A unit is τ-dormant when its mean absolute activation, normalised by the mean of its layer, is at most τ (Sokar et
    al., 2023, arXiv:2302.12902, definition 3.1).
    """
    size = activations.detach().abs().mean(dim=0)
    return float((size <= DORMANT * size.mean()).float().mean())
