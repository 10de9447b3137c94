"""The classic design that moard replaces: one network on text, one row a step (rl.md §1).

``Q = V + A − mean A`` of one network on the decayed mean of the vectors of what the user consumed and the vector of the
content. Each row is a user, a content and whether it was clicked; it is trained once, alone, as it comes, on a target
that ends there. The mean is over what is passed together: over one row while learning, so that A never gets a
gradient, and over the candidates of a request while ranking.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

HISTORY = 10  # the legacy server's user vector: the last 10 …
DECAY = 0.9  # … each weighing this to the power of its age in hours
HIDDEN = 128
LR = 1e-3


class DuelingMlp(nn.Module):
    """V and A from two hidden layers on user and content together."""

    def __init__(self, vector_size: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2 * vector_size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.value = nn.Linear(HIDDEN, 1)
        self.advantage = nn.Linear(HIDDEN, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return Q of each row; the advantage is centred over the rows passed together."""
        hidden = self.trunk(pairs)
        advantage = self.advantage(hidden)
        q: Tensor = (self.value(hidden) + advantage - advantage.mean()).squeeze(1)
        return q


class Classic:
    """A ranker by Q, told the text vectors of all contents."""

    def __init__(self, texts: Mapping[int, NDArray[np.float32]], seed: int = 0) -> None:
        self._texts = {content_id: vector / np.linalg.norm(vector) for content_id, vector in texts.items()}
        self._size = len(next(iter(texts.values())))
        self._history: dict[int, list[tuple[int, int]]] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = DuelingMlp(self._size)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=LR, fused=True)

    def scores(self, user_id: int, candidates: Sequence[int], now_s: int) -> NDArray[np.float32]:
        """Return Q of each candidate."""
        with torch.inference_mode():
            scores: NDArray[np.float32] = self.network(self._pairs(user_id, candidates, now_s)).numpy()
        return scores

    def shown(self, user_id: int, slate: Sequence[int], clicked: Collection[int], now_s: int) -> None:
        """Take one step for each content that was shown, in slate order."""
        rows = self._pairs(user_id, slate, now_s)
        for row, content_id in zip(rows, slate, strict=True):
            self._step(row[None], float(content_id in clicked))
        for content_id in clicked:
            self._visit(user_id, content_id, now_s)

    def liked(self, user_id: int, content_id: int, now_s: int) -> None:
        """Take one step for what was liked outside of any slate."""
        self._step(self._pairs(user_id, (content_id,), now_s), 1.0)
        self._visit(user_id, content_id, now_s)

    def _step(self, row: Tensor, reward: float) -> None:
        self._optimiser.zero_grad(set_to_none=True)
        loss = functional.mse_loss(self.network(row), torch.tensor([reward]))
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()

    def _pairs(self, user_id: int, content_ids: Sequence[int], now_s: int) -> Tensor:
        history = self._history.get(user_id, [])[-HISTORY:]
        user = np.zeros(self._size, np.float32)
        for content_id, then_s in history:
            user += self._texts[content_id] * DECAY ** ((now_s - then_s) / 3600) / len(history)
        contents = np.stack([self._texts[content_id] for content_id in content_ids])
        return torch.from_numpy(np.concatenate([np.tile(user, (len(contents), 1)), contents], axis=1))

    def _visit(self, user_id: int, content_id: int, now_s: int) -> None:
        self._history.setdefault(user_id, []).append((content_id, now_s))
