"""Where a row of the buffer lies, by its key."""

import numpy as np
from jaxtyping import Int64


class RowIndex:
    """A map from keys to slots that keeps no keys of its own: 8 to 16 bytes a row, where a dict of integers takes 110.

    ``keys`` holds the key of each slot and stays the owner's: it must have the key of a slot that is in the map for as
    long as it is. Open addressing with linear probing (Knuth, TAOCP 3, 6.4, algorithms L and R) in a table at most half
    full; keys are taken for random, as hashes are.
    """

    def __init__(self, keys: Int64[np.ndarray, "M"]) -> None:
        self._mask = (1 << (2 * len(keys) - 1).bit_length()) - 1
        # Views, as they give plain integers five times as fast as arrays do.
        self._places = np.zeros(self._mask + 1, np.int32).data  # one more than the slot, 0 where nothing is
        self._keys = keys.data
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def get(self, key: int) -> int | None:
        """Return the slot of a key, None when it has none."""
        place = self._places[self._find(key)]
        return place - 1 if place else None

    def add(self, key: int, slot: int) -> None:
        """Take in a key that is not in the map."""
        self._places[self._find(key)] = slot + 1
        self._size += 1

    def remove(self, key: int) -> int | None:
        """Forget a key; return the slot it had, None when it was not there."""
        hole = self._find(key)
        if not (place := self._places[hole]):
            return None
        at = hole
        while follower := self._places[at := (at + 1) & self._mask]:
            home = self._keys[follower - 1] & self._mask
            if (at - home) & self._mask >= (at - hole) & self._mask:  # it was pushed past the hole: move it back
                self._places[hole], hole = follower, at
        self._places[hole] = 0
        self._size -= 1
        return place - 1

    def _find(self, key: int) -> int:
        """Return where a key is, or where it would go."""
        at = key & self._mask
        while (place := self._places[at]) and self._keys[place - 1] != key:
            at = (at + 1) & self._mask
        return at
