"""AdamW for all weights of a network as one vector."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw


class FlatAdam:
    """AdamW (Loshchilov & Hutter, 2019, arXiv:1711.05101) over one vector, by torch's own function.

    Bit for bit what ``torch.optim.AdamW(fused=True)`` does. Making an object of that class imports torch's compiler:
    4 s, twice as long as everything else that a learner does to start.

    Attributes
    ----------
    mean, square
        Running means of the gradient and of its square.
    steps
        Steps taken, as a number in a tensor.
    """

    def __init__(self, size: int, weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.mean, self.square = torch.zeros(size), torch.zeros(size)
        self.steps = torch.tensor(0.0)

    @torch.no_grad()
    def step(self, vector: Float[Tensor, "W"], gradient: Float[Tensor, "W"], lr: float) -> None:
        """Move the vector against the gradient, in place."""
        adamw(
            [vector],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.steps],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )
