"""Contents by dense index: ids, text vectors and hidden flags in arrays that grow."""

from collections.abc import Collection, Iterable, Sequence
from itertools import repeat

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

PADDING = 0
"""The index that means "no content": zero vector, never hidden, never drawn."""


class ActionSpace:
    """Give every content id a dense index at first sight and keep it for good.

    Notes
    -----
    An index is never reused, so rows of a replay buffer may hold indices for as long as they live. Array attributes
    are views that growth replaces: read them anew after a change. One writer; a reader on another thread sees a
    content either before or after its change as long as it takes ``changes`` first and asks ``changed_since`` later.
    """

    def __init__(self, vector_size: int, capacity: int = 1024) -> None:
        self.vector_size = vector_size
        self.changes = 0
        self._size = 1
        self._index: dict[int, int] = {}
        self._ids = np.full(capacity, -1, np.int64)
        self._vectors = np.zeros((capacity, vector_size), np.float32)
        self._inverse_norm = np.zeros(capacity, np.float32)
        self._hidden = np.zeros(capacity, np.bool_)
        self._stamps = np.zeros(capacity, np.int64)

    def __len__(self) -> int:
        """Return the number of indices in use, padding included."""
        return self._size

    def __contains__(self, content_id: int) -> bool:
        return content_id in self._index

    @property
    def ids(self) -> Int64[np.ndarray, "M"]:
        """Content id of each index, -1 for padding."""
        return self._ids[: self._size]

    @property
    def vectors(self) -> Float32[np.ndarray, "M D"]:
        """Text vectors as they came, zero where none has come."""
        return self._vectors[: self._size]

    @property
    def inverse_norm(self) -> Float32[np.ndarray, "M"]:
        """One over the vector's length, zero for the zero vector."""
        return self._inverse_norm[: self._size]

    @property
    def hidden(self) -> Bool[np.ndarray, "M"]:
        """Contents that must not be ranked."""
        return self._hidden[: self._size]

    @property
    def has_vector(self) -> Bool[np.ndarray, "M"]:
        """Contents with a text vector other than zero."""
        return self.inverse_norm > 0

    def index(self, ids: Collection[int]) -> Int32[np.ndarray, "K"]:
        """Return the index of each id, 0 where it is unknown."""
        return np.fromiter(map(self._index.get, ids, repeat(PADDING)), np.int32, len(ids))

    def ensure(self, ids: Sequence[int]) -> Int32[np.ndarray, "K"]:
        """Return the index of each id; one never seen gets the next index and a zero vector."""
        return np.array([self.at(content_id) for content_id in ids], np.int32)

    def at(self, content_id: int) -> int:
        """Return the index of one id, the next one at first sight."""
        return self._index.get(content_id) or self._add(content_id)

    def put(self, content_id: int, vector: Iterable[float] | np.ndarray | None, hidden: bool = False) -> int:
        """Set what is known of a content, in full, and return its index.

        Raises
        ------
        ValueError
            The vector has another length than the space, or a component that single precision cannot hold.
        """
        row = self._row(content_id, vector)
        at = self.at(content_id)
        length = float(np.linalg.norm(row.astype(np.float64)))
        self._vectors[at] = row
        self._inverse_norm[at] = 1 / length if length > 1e-12 else 0.0
        self._hidden[at] = hidden
        self._touch(at)
        return at

    def remove(self, content_id: int) -> None:
        """Hide a content and forget its vector; its index stays its own."""
        if content_id in self._index:
            self.put(content_id, None, hidden=True)

    def changed_since(self, version: int) -> Int32[np.ndarray, "C"]:
        """Return the indices added or changed after ``changes`` was ``version``."""
        return np.flatnonzero(self._stamps[: self._size] > version).astype(np.int32)

    def _row(self, content_id: int, vector: Iterable[float] | np.ndarray | None) -> np.ndarray:
        if vector is None:
            return np.zeros(self.vector_size, np.float32)
        with np.errstate(over="ignore"):
            row = np.asarray(vector if isinstance(vector, np.ndarray) else list(vector), np.float32)
        if row.shape != (self.vector_size,):
            raise ValueError(f"content {content_id}: vector of shape {row.shape}, expected ({self.vector_size},)")
        if not np.isfinite(row).all():
            raise ValueError(f"content {content_id}: vector has a component that is not finite")
        return row

    def _add(self, content_id: int) -> int:
        if self._size == len(self._ids):
            self._grow()
        at = self._size
        self._ids[at] = content_id
        self._index[content_id] = at
        self._size += 1
        self._touch(at)
        return at

    def _touch(self, at: int) -> None:
        self.changes += 1
        self._stamps[at] = self.changes

    def _grow(self) -> None:
        for name in ("_ids", "_vectors", "_inverse_norm", "_hidden", "_stamps"):
            old = getattr(self, name)
            new = np.zeros((2 * len(old), *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
