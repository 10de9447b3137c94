"""The classic design: one network on text vectors, one row a step, and what it learns is the reward of now.

The user is the decayed mean of the vectors of what was consumed; user and content go through one multilayer perceptron
whose output is the expected reward. It is trained on each consumption once, when it happens, and never looks ahead.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.choc_kale_play import Choose, Step
from libs.rl.features import age_weights
from libs.rl.transitions import State

_HIDDEN = 128
_EPSILON = 0.1
_LR = 1e-3


class Classic:
    """Ranks by the expected reward of now; explores a tenth of the time."""

    def __init__(self, vectors: NDArray[np.float32], weight: float, seed: int) -> None:
        size = vectors.shape[1]
        self._vectors, self._weight = torch.from_numpy(vectors), weight
        self._rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = nn.Sequential(
                nn.Linear(2 * size, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)
            )
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=_LR, fused=True)

    def choose(self, state: State, candidates: Sequence[int]) -> int:
        """Return the content that promises most, or anything."""
        if self._rng.random() < _EPSILON:
            return candidates[int(self._rng.integers(len(candidates)))]
        return self._best(state, candidates)

    def greedy(self) -> Choose:
        """Return the policy that always takes what promises most."""
        return self._best

    def tell(self, step: Step) -> None:
        """Take one gradient step on one row."""
        wanted = torch.tensor([self._weight * step.reward])
        loss = functional.mse_loss(self._promise(step.state, [step.content]), wanted)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def learn(self) -> None:
        """Do nothing: each row was learned when it came."""

    def _best(self, state: State, candidates: Sequence[int]) -> int:
        with torch.inference_mode():
            return candidates[int(self._promise(state, candidates).argmax())]

    def _promise(self, state: State, contents: Sequence[int]) -> torch.Tensor:
        user = torch.zeros(self._vectors.shape[1])
        if state.history:
            weights = torch.from_numpy(age_weights(np.array(state.history_age_s)))
            user = weights @ self._vectors[list(state.history)] / weights.sum()
        rows = torch.cat([user.expand(len(contents), -1), self._vectors[list(contents)]], dim=1)
        promised: torch.Tensor = self._network(rows)[:, 0]
        return promised
