"""One sequence out of many partitions: by append time, then topic, partition and offset (rl.md §4).

The sequence is a function of the log alone: how records were fetched, and in which portions, changes when a record
comes out, never where.
"""

import heapq
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

from libs.adapters.ports import Record, TopicPartition

_NEVER_MS: Final = 2**63 - 1  # after every time that a record can have


class Merge:
    """Records go in partition by partition, each in offset order, and come out in the order of the whole log.

    Parameters
    ----------
    partitions
        All that are merged.

    Notes
    -----
    The sequence goes on from any point of it as it would have without a stop. A broker whose clock was set back writes
    an earlier time after a later one; such a record comes right after the one before it in its partition.
    """

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        self._queues: dict[TopicPartition, deque[Record]] = {tp: deque() for tp in partitions}
        self._bounds_ms = dict.fromkeys(partitions, 0)
        self._merged: list[Record] = []
        self.merged_ms = 0

    @property
    def pending(self) -> int:
        """Records that went in and have not come out."""
        return len(self._merged) + sum(map(len, self._queues.values()))

    def add(self, records: Iterable[Record]) -> None:
        """Put fetched records in."""
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            self._queues[tp].append(record)
            self._bounds_ms[tp] = max(record.append_ms, self._bounds_ms[tp])

    def known_idle(self, tp: TopicPartition, until_ms: int) -> None:
        """Note that all records of a partition appended before this time went in."""
        self._bounds_ms[tp] = max(until_ms, self._bounds_ms[tp])

    def close(self, tp: TopicPartition) -> None:
        """Note that all records of a partition went in, and no other ever will."""
        self._bounds_ms[tp] = _NEVER_MS

    def ahead(self, records: int) -> list[TopicPartition]:
        """Return the partitions of which so many records wait: reading more of them would only cost memory."""
        return [tp for tp, queue in self._queues.items() if len(queue) >= records]

    def take(self, count: int) -> list[Record]:
        """Return exactly the next ``count`` records, none while it is not certain which they are."""
        self._advance(count)
        if len(self._merged) < count:
            return []
        return self._take_merged()

    def rest(self) -> list[Record]:
        """Return what is left, once every partition is closed."""
        self._advance(self.pending)
        return self._take_merged()

    def _take_merged(self) -> list[Record]:
        taken, self._merged = self._merged, []
        return taken

    def _advance(self, count: int) -> None:
        # Of each partition the time of its next record, or the earliest that one may still have: when such a bound is
        # the least of all, what comes next is not known yet. Equal times are ordered by topic and partition.
        heads = [(self._next_ms(tp), tp) for tp in self._queues]
        heapq.heapify(heads)
        while len(self._merged) < count:
            _, tp = heads[0]
            if not self._queues[tp]:
                return
            record = self._queues[tp].popleft()
            self._merged.append(record)
            self.merged_ms = max(record.append_ms, self.merged_ms)
            heapq.heapreplace(heads, (self._next_ms(tp), tp))

    def _next_ms(self, tp: TopicPartition) -> int:
        queue = self._queues[tp]
        return queue[0].append_ms if queue else self._bounds_ms[tp]
