"""The classic design that moard replaces: one network on text, one row a step (rl.md §1).

``Q = V + A − mean A`` of one network on the decayed mean of the vectors of what the user consumed and the vector of the
content. Each row is a user, a content and whether it was clicked; it is trained once, alone, as it comes, on a target
that ends there. The mean is over what is passed together: over one row while learning, so that A never gets a
gradient, and over the candidates of a request while ranking.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

HISTORY = 10  # the legacy server's user vector: the last 10 …
DECAY = 0.9  # … each weighing this to the power of its age in hours
HIDDEN = 128
LR = 1e-3  # of Adam, with its usual other settings
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Array = NDArray[np.float32]


class DuelingMlp:
    """V and A from two hidden layers on user and content together, with the gradient of a single row by hand.

    By hand, as an update of one row is all overhead in a framework: 0.8 ms instead of 0.2, and a stream has 130,000.
    """

    def __init__(self, inputs: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shapes = {
            "first": (HIDDEN, inputs),
            "first_bias": (HIDDEN,),
            "second": (HIDDEN, HIDDEN),
            "second_bias": (HIDDEN,),
            "value": (HIDDEN,),
            "value_bias": (1,),
        }
        # One array of all that moves, so that Adam is a handful of operations; the names are views into it.
        self._all = np.zeros(sum(int(np.prod(shape)) for shape in shapes.values()), np.float32)
        self._gradient, self._mean, self._square = (np.zeros_like(self._all) for _ in range(3))
        self.weights, self._gradients = _views(self._all, shapes), _views(self._gradient, shapes)
        for name, weight in self.weights.items():
            bound = 1 / np.sqrt(inputs if name.startswith("first") else HIDDEN)
            weight[...] = rng.uniform(-bound, bound, weight.shape)
        self.advantage = rng.uniform(-1, 1, HIDDEN).astype(np.float32) / np.float32(np.sqrt(HIDDEN))
        self._steps = 0

    def q(self, pairs: Array) -> Array:
        """Return Q of each row; the advantage is centred over the rows passed together."""
        w = self.weights
        hidden = np.maximum(pairs @ w["first"].T + w["first_bias"], 0)
        hidden = np.maximum(hidden @ w["second"].T + w["second_bias"], 0)
        advantage = hidden @ self.advantage
        q: Array = hidden @ w["value"] + w["value_bias"] + advantage - advantage.mean()
        return q

    def step(self, row: Array, reward: float) -> None:
        """Move against the gradient of (Q − reward)²; A cancels out over a single row and stays as it is."""
        w, g = self.weights, self._gradients
        first = np.maximum(w["first"] @ row + w["first_bias"], 0)
        second = np.maximum(w["second"] @ first + w["second_bias"], 0)
        error = 2 * (float(w["value"] @ second) + float(w["value_bias"][0]) - reward)
        g["value"][...] = error * second
        g["value_bias"][...] = error
        g["second_bias"][...] = error * w["value"] * (second > 0)
        np.outer(g["second_bias"], first, out=g["second"])
        g["first_bias"][...] = (g["second_bias"] @ w["second"]) * (first > 0)
        np.outer(g["first_bias"], row, out=g["first"])
        self._adam()

    def _adam(self) -> None:
        self._steps += 1
        self._mean += (1 - BETA_1) * (self._gradient - self._mean)
        self._square += (1 - BETA_2) * (self._gradient * self._gradient - self._square)
        scale = np.float32(np.sqrt(1 - BETA_2**self._steps) / (1 - BETA_1**self._steps) * LR)
        root = np.sqrt(self._square)
        root += np.float32(EPSILON * np.sqrt(1 - BETA_2**self._steps))
        self._all -= scale * self._mean / root


def _views(flat: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


class Classic:
    """A ranker by Q, told the text vectors of all contents."""

    def __init__(self, texts: Mapping[int, Array], seed: int = 0) -> None:
        self._texts = {content_id: vector / np.linalg.norm(vector) for content_id, vector in texts.items()}
        self._size = len(next(iter(texts.values())))
        self._history: dict[int, list[tuple[int, int]]] = {}
        self.network = DuelingMlp(2 * self._size, seed)

    def scores(self, user_id: int, candidates: Sequence[int], now_s: int) -> Array:
        """Return Q of each candidate."""
        return self.network.q(self._pairs(user_id, candidates, now_s))

    def shown(self, user_id: int, slate: Sequence[int], clicked: Collection[int], now_s: int) -> None:
        """Take one step for each content that was shown, in slate order."""
        for row, content_id in zip(self._pairs(user_id, slate, now_s), slate, strict=True):
            self.network.step(row, float(content_id in clicked))
        for content_id in clicked:
            self._visit(user_id, content_id, now_s)

    def liked(self, user_id: int, content_id: int, now_s: int) -> None:
        """Take one step for what was liked outside of any slate."""
        self.network.step(self._pairs(user_id, (content_id,), now_s)[0], 1.0)
        self._visit(user_id, content_id, now_s)

    def _pairs(self, user_id: int, content_ids: Sequence[int], now_s: int) -> Array:
        history = self._history.get(user_id, [])[-HISTORY:]
        user = np.zeros(self._size, np.float32)
        for content_id, then_s in history:
            user += self._texts[content_id] * np.float32(DECAY ** ((now_s - then_s) / 3600) / len(history))
        contents = np.stack([self._texts[content_id] for content_id in content_ids])
        return np.concatenate([np.tile(user, (len(contents), 1)), contents], axis=1)

    def _visit(self, user_id: int, content_id: int, now_s: int) -> None:
        self._history.setdefault(user_id, []).append((content_id, now_s))
