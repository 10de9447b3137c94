"""The reader ports over ``MemoryLog``."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping

from libs.adapters.log_errors import out_of_range
from libs.adapters.memory_log import MemoryLog
from libs.adapters.ports import Record, TopicPartition


class _Cursor:
    """Positions of some partitions, read round robin so that none starves."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self._turn = 0

    def take(self, max_records: int) -> list[Record]:
        assigned = [tp for tp in self.positions if tp not in self.paused]
        if not self._log.available or not assigned:
            return []
        self._turn = (self._turn + 1) % len(assigned)
        taken: list[Record] = []
        for tp in assigned[self._turn :] + assigned[: self._turn]:
            partition = self._log.partition(tp)
            start = self.positions[tp] - partition.beginning
            if not 0 <= start <= len(partition.records):
                raise out_of_range(tp, self.positions[tp])
            found = partition.records[start : start + max_records - len(taken)]
            self.positions[tp] += len(found)
            taken += found
        return taken

    def lag(self) -> dict[TopicPartition, int]:
        ends = {tp: self._log.partition(tp).end for tp in self.positions} if self._log.available else self.positions
        return {tp: max(0, ends[tp] - position) for tp, position in self.positions.items()}


async def _poll(log: MemoryLog, take: Callable[[], list[Record]], timeout_ms: int) -> list[Record]:
    deadline = time.monotonic() + timeout_ms / 1_000
    await asyncio.sleep(0)  # with records always there, the loop would otherwise never run anything else
    while not (taken := take()) and (left := deadline - time.monotonic()) > 0:
        await log.wait(left)
    return taken


class MemoryPartitionReader:
    """Twin of ``KafkaPartitionReader``."""

    def __init__(self, log: MemoryLog, group_id: str) -> None:
        self._log = log
        self._group_id = group_id
        self._cursor = _Cursor(log)

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Assign exactly these partitions, each at its offset (-1: the beginning)."""
        self._cursor.positions = {
            tp: self._log.partition(tp).beginning if offset < 0 else offset for tp, offset in offsets.items()
        }

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records; raises ``RefusedStart`` at an offset the log does not hold."""
        return await _poll(self._log, lambda: self._cursor.take(max_records), timeout_ms)

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Stop returning records of these partitions, or of all."""
        self._cursor.paused |= set(self._cursor.positions if partitions is None else partitions)

    def resume(self) -> None:
        """Return records of all partitions again."""
        self._cursor.paused = set()
        self._log.wake()

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each assigned partition."""
        return dict(self._cursor.positions)

    def lag(self) -> dict[TopicPartition, int]:
        """Return end minus position."""
        return self._cursor.lag()

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Return log end offsets."""
        return {tp: self._log.partition(tp).end for tp in self._cursor.positions}

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Return first retained offsets."""
        return {tp: self._log.partition(tp).beginning for tp in self._cursor.positions}

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """Return the first offsets appended at a moment or later."""
        found = {}
        for tp in self._cursor.positions:
            partition = self._log.partition(tp)
            later = (record.offset for record in partition.records if record.append_ms >= at_ms)
            found[tp] = next(later, partition.end)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Store offsets under the group id."""
        if self._log.available:
            self._log.group(self._group_id).committed.update(offsets)
        return self._log.available

    async def committed(self) -> dict[TopicPartition, int]:
        """Return the offsets under the group id."""
        self._log.require()
        stored = self._log.group(self._group_id).committed
        return {tp: stored[tp] for tp in self._cursor.positions if tp in stored}

    async def stop(self) -> None:
        """Forget the assignment."""
        self._cursor.positions = {}


class MemoryGroupOffsets:
    """Twin of ``KafkaGroupOffsets``."""

    def __init__(self, log: MemoryLog, group_id: str) -> None:
        self._log = log
        self._group = log.group(group_id)

    async def start(self) -> None:
        """Connect."""
        self._log.require()

    async def behind(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return log end minus committed offset."""
        found = {tp: self._log.partition(tp) for tp in partitions}
        committed = self._group.committed
        return {tp: each.end - max(each.beginning, committed.get(tp, 0)) for tp, each in found.items()}

    async def stop(self) -> None:
        """Close."""


class MemoryGroupReader:
    """Twin of ``KafkaGroupReader``: members share a topic's partitions and resume at the committed offsets."""

    def __init__(self, log: MemoryLog, group_id: str, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._group = log.group(group_id)
        self._generation = -1
        self._rebalances = 0
        self._cursor = _Cursor(log)

    async def start(self) -> None:
        """Join the group."""
        self._log.partitions(self._topic)
        self._group.members.append(self)
        self._rebalance()
        self._adopt()

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records of the partitions held at the moment."""
        return await _poll(self._log, lambda: self._take(max_records), timeout_ms)

    async def commit(self) -> bool:
        """Commit what was returned so far; False when the partitions have moved on or the broker is away."""
        if not self._log.available or self._generation != self._group.generation:
            return False
        self._group.committed.update(self._cursor.positions)
        return True

    def lag(self) -> dict[TopicPartition, int]:
        """Return end minus position."""
        return self._cursor.lag()

    @property
    def rebalances(self) -> int:
        """Times partitions were given to this member."""
        return self._rebalances

    async def stop(self) -> None:
        """Leave the group."""
        if self in self._group.members:
            self._group.members.remove(self)
            self._rebalance()

    def _rebalance(self) -> None:
        self._group.generation += 1
        self._log.wake()

    def _take(self, max_records: int) -> list[Record]:
        self._adopt()
        return self._cursor.take(max_records)

    def _adopt(self) -> None:
        if self._generation == self._group.generation or not self._log.available:
            return
        self._generation = self._group.generation
        self._rebalances += 1
        share, members = self._group.members.index(self), len(self._group.members)
        self._cursor.positions = {
            tp: max(self._group.committed.get(tp, 0), partition.beginning)
            for number, partition in enumerate(self._log.partitions(self._topic))
            if number % members == share
            for tp in [TopicPartition(self._topic, number)]
        }
