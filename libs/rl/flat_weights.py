"""All weights of a network as one vector: an optimiser that steps once, not once for each of twenty tensors."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FlatWeights:
    """The parameters of a module, which become views of one vector.

    Notes
    -----
    Loading a state into the module writes through the views; a module that is moved or converted leaves the vector.
    """

    def __init__(self, module: nn.Module) -> None:
        # Large ones first: their sizes keep those behind them on boundaries of what a vector unit loads at once.
        named = sorted(module.named_parameters(), key=lambda pair: -pair[1].numel())
        self._parameters = dict(named)
        self.vector = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for _, parameter in named]))
        for name, part in self.split(self.vector.detach()).items():
            self._parameters[name].data = part

    def split(self, vector: Float[Tensor, "W"]) -> dict[str, Tensor]:
        """Return what of such a vector belongs to each parameter, by name, as views."""
        parts = torch.split(vector, [parameter.numel() for parameter in self._parameters.values()])
        shapes = (parameter.shape for parameter in self._parameters.values())
        return {name: part.view(shape) for name, part, shape in zip(self._parameters, parts, shapes, strict=True)}

    def joined(self, parts: Mapping[str, Tensor]) -> Float[Tensor, "W"]:
        """Return the vector that ``split`` would take apart like this."""
        return torch.cat([parts[name].reshape(-1) for name in self._parameters])

    def take_gradient(self) -> Float[Tensor, "W"]:
        """Return the gradient of all parameters, 0 where one has none, and forget each one's own."""
        parts = []
        for parameter in self._parameters.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parts.append(gradient.reshape(-1))
            parameter.grad = None
        return torch.cat(parts)
