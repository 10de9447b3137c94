"""The replay buffer: a ring of rows, each an impression or an organic consumption (rl.md §3).

Struct of arrays; contents are indices into tables that rows share. Rows are numbered by a serial that never repeats
and lie at ``serial % capacity``, so a reference to a row is its serial, and whether it is still there is arithmetic:
a slot taken over by a newer row is never read through an old reference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int32, Int64

from libs.rl.features import CONTEXT, HISTORY
from libs.rl.row_index import RowIndex
from libs.rl.transitions import TERMS

SLATE: Final = 12
"""Positions of a slate that a row holds; of a longer one the consumed and the first."""

CANDIDATES: Final = 32
"""Candidates that a row holds, for the greedy target."""

NOBODY: Final = 0
"""User of a row that is nobody's."""

_TERM_LIMIT: Final = 1e9  # single precision times any sane weight stays finite
_OLDEST_AGE_H: Final = 6e4  # hours that half precision holds: seven years
_NO_SERIAL: Final = -1


class Status:
    """Where a row stands in its life: plain numbers, as an enumeration costs more than all else a message does."""

    EMPTY: Final = 0
    OPEN: Final = 1
    ENDED: Final = 2
    """Closed, and the story ended there."""
    CONTINUED: Final = 3
    """Closed, and the user came back: ``continuation`` names the row, or is not known yet."""
    ORGANIC: Final = 4
    RETRACTED: Final = 5


_FIELDS: Final[Mapping[str, tuple[type, tuple[int, ...]]]] = {
    "key": (np.int64, ()),
    "status": (np.int8, ()),
    "continuation": (np.int64, ()),
    "gap_s": (np.float32, ()),
    "history": (np.int32, (HISTORY,)),
    "age_h": (np.float16, (HISTORY,)),
    "context": (np.float16, (CONTEXT,)),
    "slate": (np.int32, (SLATE,)),
    "log_count": (np.float16, (SLATE,)),
    "log_propensity": (np.float32, (SLATE,)),
    "chosen": (np.bool_, (SLATE,)),
    "terms": (np.float32, (SLATE, len(TERMS))),
    "candidates": (np.int32, (CANDIDATES,)),
    "eligible": (np.bool_, ()),
    "user": (np.int64, ()),
}


@dataclass(frozen=True, slots=True)
class NewRow:
    """What a row holds from its insertion on: contents by index, everything else as logged."""

    history: Int32[np.ndarray, "H"]
    history_age_s: Sequence[float]
    context: Float32[np.ndarray, "X"] | None
    slate: Int32[np.ndarray, "N"]
    log_counts: Float32[np.ndarray, "N"]
    log_propensities: Sequence[float] = ()
    candidates: Int32[np.ndarray, "K"] | Sequence[int] = ()
    user: int = NOBODY


def key_of(row_id: str) -> int:
    """Return the 64-bit name a row id has in the buffer (one collision in 4e7 full buffers of 1 M rows)."""
    return int.from_bytes(blake2b(row_id.encode(), digest_size=8).digest(), "little", signed=True)


class Replay:
    """Rows that can be opened, amended, closed and retracted by id while they are in the ring.

    Notes
    -----
    896 bytes a row plus about 10 for its entry in the index. Memory is taken as rows come in. One owner.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.inserted = 0
        self.truncated = 0  # consumptions of a content that no longer fits into its row's slate
        self.eligible_rows = 0
        self.changes = 0
        self._stamps = np.zeros(capacity, np.int64)  # value of ``changes`` when a row changed last
        self.columns: dict[str, np.ndarray] = {
            name: np.zeros((capacity, *shape), dtype) for name, (dtype, shape) in _FIELDS.items()
        }
        self._index = RowIndex(self.columns["key"])
        self._waiting: dict[int, int] = {}  # row that has not come yet → serial of the row it continues
        self._dirty: dict[int, None] = {}  # slots with something no gradient has seen, oldest first

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dirty(self) -> int:
        """Rows that hold something no gradient has seen."""
        return len(self._dirty)

    def slot(self, key: int) -> int | None:
        """Return where a row lies, None when it is not in the buffer."""
        return self._index.get(key)

    def __contains__(self, key: int) -> bool:
        return self._index.get(key) is not None

    def alive(self, serials: Int64[np.ndarray, "B"]) -> np.ndarray:
        """Tell which serials still name a row of the ring."""
        return (serials >= 0) & (serials >= self.inserted - self.capacity) & (serials < self.inserted)

    def ages(self, slots: Int64[np.ndarray, "B"]) -> Int64[np.ndarray, "B"]:
        """Return how many rows came after those in the given slots."""
        ages: np.ndarray = (self.inserted - 1 - slots) % self.capacity
        return ages

    def insert(self, key: int, row: NewRow, organic: bool = False) -> int:
        """Put a row that is not in the buffer at the head of the ring, over the oldest one; return its slot."""
        serial, slot = self.inserted, self.inserted % self.capacity
        self._evict(slot)
        self.inserted += 1
        self._write(slot, key, row)
        self._index.add(key, slot)
        self.columns["status"][slot] = Status.ORGANIC if organic else Status.OPEN
        self._touch(slot)
        if (earlier := self._waiting.pop(key, None)) is not None:
            self.columns["continuation"][earlier % self.capacity] = serial
            self._touch(earlier % self.capacity)
        return slot

    def consume(self, slot: int, content: int, terms: Mapping[str, float], choice: bool) -> bool:
        """Amend one content of a row; return whether this made it a consumed one."""
        position = self._position(slot, content)
        if position is None:
            self.truncated += 1
            return False
        self._touch(slot)
        row = self.columns["terms"][slot, position]
        for name, value in terms.items():
            at = TERMS.index(name)
            # By magnitude, so that neither order nor repetition matters and a negative term counts at all.
            old, new = float(row[at]), min(max(value, -_TERM_LIMIT), _TERM_LIMIT)
            if (abs(new), new) > (abs(old), old):
                row[at] = new
        first = choice and not self.columns["chosen"][slot, position]
        self.columns["chosen"][slot, position] |= choice
        if first:
            self._admit(slot)
        if self.columns["eligible"][slot]:
            self._mark(slot)
        return bool(first)

    def withdraw(self, slot: int, content: int) -> bool:
        """Take back what was amended into one content of a row; return whether it counted as a consumed one."""
        found = np.flatnonzero(self.columns["slate"][slot] == content)
        if not len(found):
            return False
        self._touch(slot)
        chosen = bool(self.columns["chosen"][slot, found[0]])
        self.columns["terms"][slot, found[0]], self.columns["chosen"][slot, found[0]] = 0, False
        if self.columns["status"][slot] == Status.OPEN and not self.columns["chosen"][slot].any():
            self._dismiss(slot)
        return chosen

    def close(self, slot: int, next_key: int | None, gap_s: float) -> None:
        """End the row's story, or continue it with another row; said again, the last answer counts."""
        if self.columns["status"][slot] not in (Status.OPEN, Status.CONTINUED, Status.ENDED):
            return
        self._touch(slot)
        self._stop_waiting(slot)
        self.columns["status"][slot] = Status.ENDED if next_key is None else Status.CONTINUED
        self.columns["gap_s"][slot] = gap_s
        self.columns["continuation"][slot] = _NO_SERIAL if next_key is None else self._continuation(slot, next_key)
        if not self.columns["eligible"][slot]:
            self._admit(slot)
            self._mark(slot)

    def reopen(self, slot: int) -> None:
        """Take back that a row was closed."""
        if self.columns["status"][slot] not in (Status.CONTINUED, Status.ENDED):
            return
        self._touch(slot)
        self._stop_waiting(slot)
        self.columns["status"][slot], self.columns["continuation"][slot] = Status.OPEN, _NO_SERIAL
        if not self.columns["chosen"][slot].any():
            self._dismiss(slot)

    def retract(self, key: int) -> None:
        """Take an organic row out of training for good."""
        slot = self._index.remove(key)
        if slot is None:
            return
        self._touch(slot)
        self._dismiss(slot)
        self.columns["status"][slot] = Status.RETRACTED

    def expel(self, slot: int) -> None:
        """Take a row out of training for good and forget what it held: rows that went on to it read an empty state."""
        self._evict(slot)
        self._touch(slot)
        for name in self.columns.keys() - {"key"}:
            self.columns[name][slot] = 0
        self.columns["status"][slot], self.columns["continuation"][slot] = Status.RETRACTED, _NO_SERIAL

    def erase(self, user: int) -> Int64[np.ndarray, "M"]:
        """Expel all rows of a user, retracted ones too, and return their slots; O(rows), 1 ms for a million."""
        slots = np.flatnonzero(self.columns["user"][: min(self.inserted, self.capacity)] == user)
        for slot in slots.tolist():
            self.expel(slot)
        self.columns["key"][slots] = 0
        return slots

    def newest_dirty(self, count: int) -> Int64[np.ndarray, "B"]:
        """Return slots of rows with something no gradient has seen, newest first."""
        return np.fromiter(islice(reversed(self._dirty), count), np.int64)

    def mark_trained(self, slots: Iterable[int]) -> None:
        """Note that a gradient has seen these rows as they are now."""
        for slot in slots:
            self._dirty.pop(slot, None)

    def changed_since(self, change: int) -> Int64[np.ndarray, "M"]:
        """Return the slots whose rows changed after ``changes`` was ``change``, in ascending order."""
        return np.flatnonzero(self._stamps[: min(self.inserted, self.capacity)] > change)

    def rows(self, slots: Int64[np.ndarray, "M"]) -> dict[str, np.ndarray]:
        """Return copies of some rows, by column."""
        return {name: column[slots] for name, column in self.columns.items()}

    def put_rows(self, slots: Int64[np.ndarray, "M"], rows: Mapping[str, np.ndarray]) -> None:
        """Write what ``rows`` returned; once all are there, ``resume`` makes them a buffer."""
        for name, column in self.columns.items():
            column[slots] = rows[name]
        self._stamps[slots] = 1  # changed some time, and not since the state that they come from

    def meta(self) -> dict[str, Any]:
        """Return everything but the rows, as JSON values."""
        return {
            "capacity": self.capacity,
            "inserted": self.inserted,
            "truncated": self.truncated,
            "waiting": [list(pair) for pair in self._waiting.items()],
            "dirty": list(self._dirty),
        }

    def resume(self, meta: Mapping[str, Any]) -> None:
        """Go on as the buffer of the same capacity whose rows were put and whose ``meta`` this was."""
        self.inserted, self.truncated = meta["inserted"], meta["truncated"]
        filled = self.columns["status"][: min(self.inserted, self.capacity)]
        alive = np.flatnonzero((filled != Status.EMPTY) & (filled != Status.RETRACTED))
        for key, slot in zip(self.columns["key"][alive].tolist(), alive.tolist(), strict=True):
            self._index.add(key, slot)
        self.eligible_rows = int(self.columns["eligible"].sum())
        self._waiting = dict(meta["waiting"])
        self._dirty = dict.fromkeys(meta["dirty"])

    def _touch(self, slot: int) -> None:
        self.changes += 1
        self._stamps[slot] = self.changes

    def _write(self, slot: int, key: int, row: NewRow) -> None:
        columns = self.columns
        if self.inserted > self.capacity:  # nothing else has lain here otherwise
            for column in columns.values():
                column[slot] = 0
        columns["key"][slot], columns["continuation"][slot], columns["user"][slot] = key, _NO_SERIAL, row.user
        past, shown, logged = len(row.history[:HISTORY]), len(row.slate[:SLATE]), len(row.log_propensities[:SLATE])
        columns["history"][slot, :past] = row.history[:HISTORY]
        hours = np.array(row.history_age_s[:HISTORY], np.float64)
        hours /= 3600
        np.maximum(hours, 0, out=hours)
        columns["age_h"][slot, :past] = np.minimum(hours, _OLDEST_AGE_H, out=hours)
        if row.context is not None:
            columns["context"][slot] = row.context
        columns["slate"][slot, :shown] = row.slate[:SLATE]
        columns["log_count"][slot, :shown] = row.log_counts[:SLATE]
        columns["log_propensity"][slot] = np.nan
        columns["log_propensity"][slot, :logged] = row.log_propensities[:SLATE]
        columns["candidates"][slot, : len(row.candidates[:CANDIDATES])] = row.candidates[:CANDIDATES]

    def _position(self, slot: int, content: int) -> int | None:
        slate = self.columns["slate"][slot]
        shown: list[int] = slate.tolist()
        if content in shown:
            return shown.index(content)
        spare = np.flatnonzero(~self.columns["terms"][slot].any(axis=1) & ~self.columns["chosen"][slot])
        if not len(spare):
            return None
        slate[spare[-1]] = content
        return int(spare[-1])

    def _continuation(self, slot: int, next_key: int) -> int:
        if (next_slot := self._index.get(next_key)) is not None:
            return self._serial(next_slot)
        self._waiting[next_key] = self._serial(slot)
        return _NO_SERIAL

    def _serial(self, slot: int) -> int:
        newest = self.inserted - 1
        return newest - (newest - slot) % self.capacity

    def _evict(self, slot: int) -> None:
        status = self.columns["status"][slot]
        if status in (Status.EMPTY, Status.RETRACTED):
            return
        self._stop_waiting(slot)
        self._index.remove(int(self.columns["key"][slot]))
        self._dismiss(slot)

    def _stop_waiting(self, slot: int) -> None:
        if self.columns["status"][slot] == Status.CONTINUED and self.columns["continuation"][slot] == _NO_SERIAL:
            serial = self._serial(slot)
            self._waiting = {key: waiting for key, waiting in self._waiting.items() if waiting != serial}

    def _admit(self, slot: int) -> None:
        self.eligible_rows += not self.columns["eligible"][slot]
        self.columns["eligible"][slot] = True

    def _dismiss(self, slot: int) -> None:
        self.eligible_rows -= bool(self.columns["eligible"][slot])
        self.columns["eligible"][slot] = False
        self._dirty.pop(slot, None)

    def _mark(self, slot: int) -> None:
        self._dirty.pop(slot, None)  # to the end: newest
        self._dirty[slot] = None
