"""Hidden units that have gone quiet: capacity a network has lost without any loss saying so (rl.md §10)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor

from libs.rl.networks import RankingNetwork

DORMANT: Final = 0.1
"""Share of its layer's mean activation at which a unit counts as dormant."""


@contextmanager
def recorded(network: RankingNetwork, wanted: bool = True) -> Iterator[list[float]]:
    """Yield a list that holds, after a forward pass, the share of dormant units of each joint hidden layer.

    It stays empty unless ``wanted``.

    A unit is τ-dormant when its mean absolute activation, normalised by the mean of its layer, is at most τ (Sokar et
    al., 2023, arXiv:2302.12902, definition 3.1).
    """
    shares: list[float] = []

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001 - a hook's signature
        size = inputs[0].detach().abs().mean(dim=0)
        shares.append(float((size <= DORMANT * size.mean()).float().mean()))

    # What goes into a layer is what came out of the one before.
    hooks = [layer.register_forward_pre_hook(note) for layer in (network.middle, network.heads) if wanted]
    try:
        yield shares
    finally:
        for hook in hooks:
            hook.remove()
