"""What the id of each content has taught: one vector for a history, one vector and a bias for a candidate."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from libs.rl.row_adam import RowAdam
from libs.rl.snapshot import ID_SIZE

SPREAD: Final = 0.1
"""Of a fresh history vector; candidates start at exactly nothing, so both together would never move."""


class IdTables:
    """``user`` [M, E] and ``content`` [M, E + 1] (the bias last) by content index, each with its optimiser.

    Row 0 is padding and stays zero as long as nobody passes it to ``step``.
    """

    def __init__(self, lr: float, weight_decay: float, seed: int, spread: float = SPREAD) -> None:
        self.seed = seed
        self.spread = spread
        self.user = torch.zeros(0, ID_SIZE)
        self.content = torch.zeros(0, ID_SIZE + 1)
        self.user_adam = RowAdam(ID_SIZE, lr, weight_decay)
        self.content_adam = RowAdam(ID_SIZE + 1, lr, weight_decay)

    def grow(self, size: int) -> None:
        """Make rows for every index below ``size``: what a row starts with depends on seed and index alone."""
        if size > len(self.user):
            old, new = len(self.user), max(size, 2 * len(self.user), 1024)
            self.user = torch.cat([self.user, self._fresh(old, new)])
            self.content = torch.cat([self.content, torch.zeros(new - old, ID_SIZE + 1)])
            self.user_adam.grow(new)
            self.content_adam.grow(new)

    def touched(self) -> np.ndarray:
        """Tell of each index whether learning has moved one of its rows."""
        moved: np.ndarray = ((self.user_adam.steps > 0) | (self.content_adam.steps > 0)).numpy()
        return moved

    def tensors(self) -> dict[str, Tensor]:
        """Return both tables and the state of their optimisers, by name."""
        named = {"user": self.user, "content": self.content}
        for name, adam in (("user", self.user_adam), ("content", self.content_adam)):
            named |= {f"{name}_steps": adam.steps, f"{name}_moments": adam.moments}
        return named

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over tensors that ``tensors`` returned."""
        self.user, self.content = tensors["user"], tensors["content"]
        for name, adam in (("user", self.user_adam), ("content", self.content_adam)):
            adam.steps, adam.moments = tensors[f"{name}_steps"], tensors[f"{name}_moments"]

    def step(
        self,
        histories: Int64[Tensor, "R"],
        user_gradient: Float[Tensor, "R E"],
        contents: Int64[Tensor, "C"],
        content_gradient: Float[Tensor, "C W"],
    ) -> None:
        """Move the touched rows of both tables."""
        self.user_adam.step(self.user, histories, user_gradient)
        self.content_adam.step(self.content, contents, content_gradient)

    def _fresh(self, old: int, new: int) -> Tensor:
        rows = np.random.default_rng([self.seed, old]).normal(0, self.spread, (new - old, ID_SIZE)).astype(np.float32)
        if old == 0:
            rows[0] = 0
        return torch.from_numpy(rows)
