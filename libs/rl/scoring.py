"""The network in numpy, for serving: the content half of its first layer once per snapshot, the user half per request.

The same maths as ``networks.py``, held equal within 1e-4 by a test. The batch normalisation of a layer (LN) is folded:
centred weights give centred sums, so that only a root mean square is left to compute.
"""

import numpy as np
from jaxtyping import Float32, Int32

from libs.errors import SnapshotRejected
from libs.rl.action_space import PADDING, ActionSpace
from libs.rl.features import HISTORY, age_weights, encode_context, log_counts, popularity_centre
from libs.rl.slates import Scores
from libs.rl.snapshot import Snapshot
from libs.rl.transitions import State

NORM_EPSILON = 1e-5
_SANE = 1e6  # larger scores come from a diverged network: their standardised form is rounding noise


class Scorer:
    """Score candidates of a request with one snapshot.

    Notes
    -----
    Making one costs a product of all contents (50 k: about 0.1 s): do it off the event loop. ``refresh`` and ``score``
    share arrays and belong to one thread. Contents the snapshot does not know are scored by text alone.
    """

    def __init__(self, snapshot: Snapshot, space: ActionSpace) -> None:
        self.snapshot = snapshot
        self._space = space
        self._seen = 0
        self._rows = {content_id: row for row, content_id in enumerate(snapshot.content_ids.tolist())}
        self._centre = popularity_centre(snapshot.consumptions)
        self._split(snapshot.vector_size)
        self._half = np.zeros((0, len(self._bias_1)), np.float32)
        self._user_rows = np.zeros((0, snapshot.id_size), np.float32)
        self._content_rows = np.zeros((0, snapshot.id_size + 1), np.float32)
        self.refresh(space)

    def refresh(self, space: ActionSpace) -> None:
        """Take in contents added or changed since the last call: those indices may be scored from then on."""
        seen, size = space.changes, len(space)
        if seen == self._seen and size <= len(self._half):
            return
        changed = space.changed_since(self._seen)
        changed = changed[changed < size]  # what another thread adds meanwhile comes with the next call
        self._reserve(size)
        rows = np.array([self._rows.get(content_id, -1) for content_id in space.ids[changed].tolist()], np.int64)
        self._half[changed] = self._content_half(space, changed, rows)
        self._seen = seen

    def score(self, state: State, indices: Int32[np.ndarray, "K"]) -> Scores:
        """Return advantage and choice logit of each candidate and the values of the user."""
        user, ids = self._user(state)
        hidden = self._hidden(self._half[indices] + self._user_in @ user)
        heads = hidden @ self._heads + self._heads_bias
        # The bias rides along as a last column of ones: one product gives both id terms.
        extra = np.zeros((len(ids) + 1, 2), np.float32)
        extra[:-1, 0], extra[:-1, 1], extra[-1, 1] = self._mix.T @ ids, ids, 1.0
        heads += self._content_rows[indices] @ extra
        u, n, a_empty = self._values(user).tolist()
        return Scores(heads[:, 0], heads[:, 1], u, n, a_empty)

    def q_values(
        self, user_vector: Float32[np.ndarray, "D"], content_vectors: Float32[np.ndarray, "K D"]
    ) -> Float32[np.ndarray, "K"]:
        """Return N(u) + A(u, c) from vectors alone: nothing learned from ids, empty context."""
        user = np.zeros(self._user_in.shape[1], np.float32)
        user[: len(user_vector)] = _unit(user_vector)
        unseen = np.zeros((len(content_vectors), self._content_ids_in.shape[0]), np.float32)
        unseen[:, -1] = -self._centre
        half = _unit(content_vectors) @ self._content_text_in + unseen @ self._content_ids_in + self._bias_1
        advantage = self._hidden(half + self._user_in @ user) @ self._heads[:, 0] + self._heads_bias[0]
        total: np.ndarray = advantage + self._values(user)[1]
        return total.astype(np.float32)

    def canary(self) -> None:
        """Score a few contents for a made-up user.

        Raises
        ------
        SnapshotRejected
            A score is not finite, or so large that the network must have diverged.
        """
        indices = np.arange(min(len(self._half), 16), dtype=np.int32)
        history = tuple(self._space.ids[indices].tolist())[:HISTORY]
        state = State(history=history, history_age_s=tuple(3600.0 * at for at in range(len(history))))
        with np.errstate(all="ignore"):
            scores = self.score(state, indices)
        seen = np.concatenate([scores.advantage, scores.choice, [scores.u, scores.n, scores.a_empty]])
        if not (np.isfinite(seen).all() and np.abs(seen).max() < _SANE):
            raise SnapshotRejected("canary", "a forward pass gives scores that are not finite or absurdly large")

    def _split(self, text: int) -> None:
        w = self.snapshot.weights
        content = _centred(w["content_in.weight"])
        self._user_in = _centred(w["user_in.weight"])
        self._content_text_in = np.ascontiguousarray(content[:, :text].T)
        self._content_ids_in = np.ascontiguousarray(content[:, text:].T)
        self._bias_1 = w["content_in.bias"] - w["content_in.bias"].mean()
        self._middle = np.ascontiguousarray(_centred(w["middle.weight"]).T)
        self._bias_2 = w["middle.bias"] - w["middle.bias"].mean()
        self._heads, self._heads_bias = np.ascontiguousarray(w["heads.weight"].T), w["heads.bias"]
        self._mix = w["mix.weight"]
        self._value_in = _centred(w["value_in.weight"])
        self._value_bias = w["value_in.bias"] - w["value_in.bias"].mean()

    def _reserve(self, size: int) -> None:
        if size <= len(self._half):
            return
        capacity = max(size, len(self._half) * 5 // 4)
        for name in ("_half", "_user_rows", "_content_rows"):
            old = getattr(self, name)
            new = np.zeros((capacity, old.shape[1]), np.float32)
            new[: len(old)] = old
            setattr(self, name, new)

    def _content_half(self, space: ActionSpace, changed: np.ndarray, rows: np.ndarray) -> np.ndarray:
        known, at = changed[rows >= 0], rows[rows >= 0]
        width = self.snapshot.id_size
        self._user_rows[known] = self.snapshot.user_rows[at]
        self._content_rows[known, :width] = self.snapshot.content_rows[at]
        self._content_rows[known, width] = self.snapshot.biases[at]
        counts = np.zeros(len(changed), np.int64)
        counts[rows >= 0] = self.snapshot.consumptions[at]
        ids = np.column_stack([self._content_rows[changed, :width], log_counts(counts, self._centre)])
        half: np.ndarray = _rows(space.vectors, changed) @ self._content_text_in
        half *= space.inverse_norm[changed, None]
        half += ids @ self._content_ids_in
        half += self._bias_1
        return half

    def _user(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole input of the user and its id part."""
        index = self._space.index(state.history[:HISTORY])
        known = (index != PADDING) & (index < len(self._half))
        index = index[known]
        weights = age_weights(np.array(state.history_age_s[:HISTORY], np.float64)[known])
        ids = self._user_rows[index].sum(axis=0) / np.float32(np.sqrt(max(len(index), 1)))
        text = _unit(weights @ self._space.vectors[index])
        context = encode_context(state.context, self.snapshot.context_numbers)
        return np.concatenate([text, ids, context]), ids

    def _hidden(self, first: np.ndarray) -> np.ndarray:
        w = self.snapshot.weights
        first = _normalised_relu(first, w["norm_1.weight"], w["norm_1.bias"])
        second = first @ self._middle
        second += self._bias_2
        return _normalised_relu(second, w["norm_2.weight"], w["norm_2.bias"])

    def _values(self, user: np.ndarray) -> np.ndarray:
        w = self.snapshot.weights
        first = (self._value_in @ user + self._value_bias)[None]
        hidden = _normalised_relu(first, w["value_norm.weight"], w["value_norm.bias"])[0]
        values: np.ndarray = w["value_out.weight"] @ hidden + w["value_out.bias"]
        return values


def _rows(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return ``table[indices]``, without a copy for the run of indices that a new snapshot asks for."""
    if len(indices) and indices[-1] - indices[0] + 1 == len(indices):
        return table[indices[0] : indices[-1] + 1]
    selected: np.ndarray = table[indices]
    return selected


def _centred(weight: np.ndarray) -> np.ndarray:
    centred: np.ndarray = weight - weight.mean(axis=0, dtype=np.float64).astype(np.float32)
    return centred


def _normalised_relu(x: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """LN and ReLU in place, for rows whose mean is zero already."""
    square = np.einsum("kf,kf->k", x, x) / np.float32(x.shape[1])
    x *= (1 / np.sqrt(square + np.float32(NORM_EPSILON)))[:, None]
    x *= gain
    x += bias
    np.maximum(x, 0, out=x)
    return x


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=-1, keepdims=True))
    unit: np.ndarray = vectors / np.where(length > 1e-12, length, 1.0)
    return unit.astype(np.float32)
