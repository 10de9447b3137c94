"""The network in numpy, for serving: the content half of its first layer once per snapshot, the user half per request.

The same maths as ``networks.py``, held equal within 1e-4 by a test. What a request does not change is folded into the
weights, as each pass over [K, hidden] counts:

- Centred weights give centred sums, so that a layer norm is a product with 1/root mean square, its gain and its bias.
- relu(g·x + b) = |g|·(max(±x, −b/|g|) + b/|g|): signs go into the weights before, |g| and b into those behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from jaxtyping import Float32, Int32, Int64

from libs.errors import SnapshotRejected
from libs.rl.action_space import PADDING, ActionSpace
from libs.rl.features import HISTORY, age_weights, encode_context, log_counts, popularity_centre
from libs.rl.slates import Scores
from libs.rl.snapshot import Snapshot
from libs.rl.transitions import State

NORM_EPSILON = 1e-5
_NORMS = ("norm_1", "norm_2", "value_norm")
_LEAST_GAIN = 1e-6  # instead of 0, by which nothing can be divided: the error stays below single precision
_LEAST_LENGTH = 1e-12  # as torch's normalize has it
_CHUNK = 4_096  # contents taken in at once: temporaries of 2 MB beside tables of 40, not of 25
_SANE = 1e6  # larger scores come from a diverged network: their standardised form is rounding noise


@dataclass(frozen=True, slots=True)
class Parts:
    """What adds up to each candidate's advantage and choice logit, and how often the snapshot knows it was consumed.

    ``network`` is what the hidden layers make of texts, ids, count and context together, ``ids`` the direct product of
    what the ids of history and candidate have taught, ``choice_bias`` the candidate's own. ``consumptions`` is -1 where
    the snapshot does not know the content.
    """

    advantage_network: Float32[np.ndarray, "K"]
    advantage_ids: Float32[np.ndarray, "K"]
    choice_network: Float32[np.ndarray, "K"]
    choice_ids: Float32[np.ndarray, "K"]
    choice_bias: Float32[np.ndarray, "K"]
    consumptions: Int64[np.ndarray, "K"]


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
        self._numbers = snapshot.context_numbers
        self._rows = {content_id: row for row, content_id in enumerate(snapshot.content_ids.tolist())}
        self._centre = popularity_centre(snapshot.consumptions)
        with np.errstate(over="ignore", invalid="ignore"):  # the canary tells of a diverged network
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
        for start in range(0, len(changed), _CHUNK):
            some = changed[start : start + _CHUNK]
            self._half[some] = self._content_half(space, some, self._rows_of(space, some))
        self._seen = seen

    def score(self, state: State, indices: Int32[np.ndarray, "K"]) -> Scores:
        """Return advantage and choice logit of each candidate and the values of the user."""
        return self.score_all([(state, indices)])[0]

    def score_all(self, asked: Sequence[tuple[State, Int32[np.ndarray, "_"]]]) -> list[Scores]:
        """Return the scores of several requests, in order: a pass over all of them costs little more than over one."""
        users, ids = self._users([state for state, _ in asked])
        first, tower, mixed = self._user_products(users)
        indices = np.concatenate([indices for _, indices in asked])
        ends = list(accumulate(len(indices) for _, indices in asked))
        own = [slice(end - len(indices), end) for end, (_, indices) in zip(ends, asked, strict=True)]
        half = self._half.take(indices, axis=0)
        for pairs, of_user in zip(own, first, strict=True):
            half[pairs] += of_user
        heads = self._joint(half)
        rows = self._content_rows.take(indices, axis=0)
        learned, terms = rows[:, :-1], np.stack([mixed, ids], axis=2)
        heads[:, 1] += rows[:, -1]
        for pairs, of_user in zip(own, terms, strict=True):
            heads[pairs] += learned[pairs] @ of_user
        values = self._values(tower).tolist()
        return [Scores(heads[pairs, 0], heads[pairs, 1], *value) for pairs, value in zip(own, values, strict=True)]

    def parts(self, state: State, indices: Int32[np.ndarray, "K"]) -> Parts:
        """Return what the advantage and choice logit of each candidate are made of. Slower than ``score``."""
        users, (ids,) = self._users([state])
        first, _, (mixed,) = self._user_products(users)
        heads = self._joint(self._half.take(indices, axis=0) + first)
        learned, bias = np.hsplit(self._content_rows.take(indices, axis=0), [len(ids)])
        rows = self._rows_of(self._space, indices)
        counts = np.where(rows >= 0, self.snapshot.consumptions[rows] if len(self._rows) else 0, -1)
        return Parts(heads[:, 0], learned @ mixed, heads[:, 1], learned @ ids, bias[:, 0], counts)

    def q_values(
        self, user_vector: Float32[np.ndarray, "D"], content_vectors: Float32[np.ndarray, "K D"]
    ) -> Float32[np.ndarray, "K"]:
        """Return N(u) + A(u, c) from vectors alone: nothing learned from ids, empty context."""
        user = np.zeros((1, self._user_in.shape[0]), np.float32)
        user[0, : len(user_vector)] = _unit(user_vector)
        unseen = np.zeros((len(content_vectors), self._content_ids_in.shape[0]), np.float32)
        unseen[:, -1] = -self._centre
        first, tower, _ = self._user_products(user)
        half = _unit(content_vectors) @ self._content_text_in + unseen @ self._content_ids_in + self._bias_1
        total: np.ndarray = self._joint(half + first)[:, 0] + self._values(tower)[0, 1]
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
        norm_1, norm_2, norm_v = (_Norm(w[f"{name}.weight"], w[f"{name}.bias"]) for name in _NORMS)
        content = norm_1.before(w["content_in.weight"])
        self._content_text_in = np.ascontiguousarray(content[:, :text].T)
        self._content_ids_in = np.ascontiguousarray(content[:, text:].T)
        self._bias_1 = norm_1.before(w["content_in.bias"])
        mix = np.zeros((self.snapshot.id_size, w["user_in.weight"].shape[1]), np.float32)
        mix[:, text : text + len(mix)] = w["mix.weight"].T
        own = norm_1.before(w["user_in.weight"]), norm_v.before(w["value_in.weight"]), mix
        self._user_in = np.ascontiguousarray(np.concatenate(own).T)
        self._value_bias = norm_v.before(w["value_in.bias"])
        middle, bias = norm_1.behind(w["middle.weight"], w["middle.bias"])
        self._middle, self._bias_2 = np.ascontiguousarray(norm_2.before(middle).T), norm_2.before(bias)
        heads, self._heads_bias = norm_2.behind(w["heads.weight"], w["heads.bias"])
        self._heads = np.ascontiguousarray(heads.T)
        value_out, self._value_out_bias = norm_v.behind(w["value_out.weight"], w["value_out.bias"])
        self._value_out = np.ascontiguousarray(value_out.T)
        self._floors = norm_1.floor, norm_2.floor, norm_v.floor

    def _reserve(self, size: int) -> None:
        if size <= len(self._half):
            return
        capacity = max(size, len(self._half) * 5 // 4)
        for name in ("_half", "_user_rows", "_content_rows"):
            old = getattr(self, name)
            new = np.zeros((capacity, old.shape[1]), np.float32)
            new[: len(old)] = old
            setattr(self, name, new)

    def _rows_of(self, space: ActionSpace, indices: np.ndarray) -> np.ndarray:
        """Return the row of each content in the snapshot's tables, -1 where it has none."""
        return np.array([self._rows.get(content_id, -1) for content_id in space.ids[indices].tolist()], np.int64)

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

    def _users(self, states: Sequence[State]) -> tuple[np.ndarray, np.ndarray]:
        """Return the whole input of each user and its id part."""
        # What is unknown has index 0, whose vectors are zero; what came after the last refresh is unknown.
        index, ages_s = np.zeros((len(states), HISTORY), np.int32), np.zeros((len(states), HISTORY))
        for contents, times_s, state in zip(index, ages_s, states, strict=True):
            length = len(state.history[:HISTORY])
            contents[:length] = self._space.index(state.history[:HISTORY])
            times_s[:length] = state.history_age_s[:HISTORY]
        if len(self._space) > len(self._half):
            index[index >= len(self._half)] = PADDING
        weights = age_weights(ages_s)
        text, at = self.snapshot.vector_size, self.snapshot.vector_size + self.snapshot.id_size
        users = np.zeros((len(states), len(self._user_in)), np.float32)
        users[:, :text] = _unit((weights[:, None] @ self._space.vectors.take(index, axis=0))[:, 0])
        ids = np.add.reduce(self._user_rows.take(index, axis=0), axis=1)
        ids /= np.sqrt(np.maximum(np.add.reduce(index > PADDING, axis=1), 1), dtype=np.float32)[:, None]
        users[:, text:at] = ids
        for user, state in zip(users, states, strict=True):
            if state.context:
                user[at:] = encode_context(state.context, self._numbers)
        return users, ids

    def _user_products(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each user's share of the joint layer, the first layer of the tower, and P·ids: one product for all."""
        width = len(self._bias_1)
        products = users @ self._user_in
        return products[:, :width], products[:, width : 2 * width] + self._value_bias, products[:, 2 * width :]

    def _joint(self, first: np.ndarray) -> np.ndarray:
        """Return the heads of pairs from the sums of their halves, which it overwrites."""
        hidden = _normalised(first, self._floors[0]) @ self._middle
        hidden += self._bias_2
        heads: np.ndarray = _normalised(hidden, self._floors[1]) @ self._heads
        heads += self._heads_bias
        return heads

    def _values(self, tower: np.ndarray) -> np.ndarray:
        values: np.ndarray = _normalised(tower, self._floors[2]) @ self._value_out + self._value_out_bias
        return values


class _Norm:
    """A layer norm and the ReLU behind it, of which only ``max(x / root mean square of x, floor)`` is left to do."""

    def __init__(self, gain: np.ndarray, bias: np.ndarray) -> None:
        self._sign = np.where(gain < 0, -1.0, 1.0)
        self._gain = np.maximum(np.abs(gain.astype(np.float64)), _LEAST_GAIN)
        self._shift = bias / self._gain
        self.floor = (-self._shift).astype(np.float32)

    def before(self, weight: np.ndarray) -> np.ndarray:
        """Return the weight or bias whose sums the norm is of: centred, with the signs of the gains."""
        centred = weight - weight.mean(axis=0, dtype=np.float64)
        signed: np.ndarray = centred.T * self._sign
        return np.ascontiguousarray(signed.T.astype(np.float32))

    def behind(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight and bias that read what is left: scaled by the gains, shifted back."""
        scaled = weight * self._gain
        return scaled.astype(np.float32), (bias + scaled @ self._shift).astype(np.float32)


def _rows(table: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return ``table[indices]``, without a copy for the run of indices that a new snapshot asks for."""
    if len(indices) and indices[-1] - indices[0] + 1 == len(indices):
        return table[indices[0] : indices[-1] + 1]
    selected: np.ndarray = table[indices]
    return selected


def _normalised(x: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Norm and ReLU in place, for rows whose mean is zero already."""
    square = np.vecdot(x, x)
    square /= np.float32(x.shape[1])
    square += np.float32(NORM_EPSILON)
    x *= (1 / np.sqrt(square))[:, None]
    np.maximum(x, floor, out=x)
    return x


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)  # squares of what single precision holds
    wide /= np.maximum(np.sqrt(np.vecdot(wide, wide)), _LEAST_LENGTH)[..., None]
    return wide.astype(np.float32)
