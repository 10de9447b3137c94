"""In which order records are learned from, and how far time has come: as they arrive, or as the log says."""

from collections.abc import Mapping
from typing import Protocol

from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.events.topics import EVENTS
from services.learner.merge import Merge


class Records(Protocol):
    """What the intake reads from."""

    async def start(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Seek to these offsets (-1: the beginning) and return where that is."""

    async def take(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the records of the next turn; empty after ``timeout_ms`` without any."""

    def known_idle(self, tp: TopicPartition, end: int, taken: int, asked_ms: int) -> None:
        """Note the end that a partition had at a moment, and the next offset to be taken from it."""

    def passed_ms(self) -> dict[int, int]:
        """Return for partitions of events the append time before which nothing more will be taken."""

    @property
    def pending(self) -> int:
        """Records that were read and wait to be taken."""

    @property
    def finished(self) -> bool:
        """Whether nothing will ever be taken again; only a log that has an end can be finished."""


class ArrivingRecords:
    """``schedule="live"``: records as they arrive; while none does, time goes by the broker's clock."""

    def __init__(self, reader: PartitionReader) -> None:
        self._reader = reader
        self._idle_ms: dict[int, int] = {}
        self.pending = 0
        self.finished = False

    async def start(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Seek."""
        await self._reader.start(offsets)
        return self._reader.positions()

    async def take(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return what has arrived."""
        return await self._reader.poll(max_records, timeout_ms)

    def known_idle(self, tp: TopicPartition, end: int, taken: int, asked_ms: int) -> None:
        """Note that a partition taken up to its end holds nothing appended before the moment of asking."""
        if tp.topic == EVENTS and taken >= end:
            self._idle_ms[tp.partition] = max(asked_ms, self._idle_ms.get(tp.partition, 0))

    def passed_ms(self) -> dict[int, int]:
        """Return what is known of idle partitions."""
        return dict(self._idle_ms)


class MergedRecords:
    """``schedule="log"``: whole rounds of the merged log; time is that of the last record, in every partition.

    A round is taken at once or not at all, so that a checkpoint always stands between two rounds, and what a turn of
    the loop works on is a function of the log. What the log holds beyond its last whole round waits for more.

    Parameters
    ----------
    until
        Where the log ends for good, as in a rebuild: the last round is then what is left. None: it goes on.
    """

    def __init__(
        self, reader: PartitionReader, round_records: int, until: Mapping[TopicPartition, int] | None = None
    ) -> None:
        self._reader = reader
        self._round_records = round_records
        self._until = until
        self._merge = Merge(())
        self._read: dict[TopicPartition, int] = {}
        self._passed_ms: dict[int, int] = {}

    async def start(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Seek."""
        await self._reader.start(offsets)
        self._merge = Merge(offsets)
        self._note_read()
        return dict(self._read)

    async def take(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next whole round, or nothing while it is not complete."""
        if found := self._next_round():
            return found
        self._reader.resume()
        if ahead := self._merge.ahead(max_records):  # the others decide what comes next
            self._reader.pause(ahead)
        self._merge.add(await self._reader.poll(max_records, timeout_ms))
        self._note_read()
        return self._next_round()

    def known_idle(self, tp: TopicPartition, end: int, taken: int, asked_ms: int) -> None:  # noqa: ARG002 - read counts
        """Note that a partition read up to its end holds nothing else appended before the moment of asking."""
        if self._read.get(tp, 0) >= end:
            self._merge.known_idle(tp, asked_ms)

    def passed_ms(self) -> dict[int, int]:
        """Return the time of the last record taken, for every partition."""
        return dict(self._passed_ms)

    @property
    def pending(self) -> int:
        """Records that wait for their round to be complete."""
        return self._merge.pending

    @property
    def finished(self) -> bool:
        """Whether the log has an end and all before it was taken."""
        return self._all_read() and not self._merge.pending

    def _note_read(self) -> None:
        self._read = self._reader.positions()
        for tp, end in (self._until or {}).items():
            if self._read.get(tp, -1) >= end:
                self._merge.close(tp)

    def _all_read(self) -> bool:
        return self._until is not None and all(self._read.get(tp, -1) >= end for tp, end in self._until.items())

    def _next_round(self) -> list[Record]:
        found = self._merge.take(self._round_records)
        if not found and self._all_read():
            found = self._merge.rest()
        if found:
            self._passed_ms = {tp.partition: self._merge.merged_ms for tp in self._read if tp.topic == EVENTS}
        return found
