"""A stretch of some partitions, read once from one offset to another: by no group, and nothing is committed."""

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final, NamedTuple

from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.errors import StoreUnavailable

_POLL_MS: Final = 500
_SILENCE_S: Final = 30.0  # a broker that has records and sends none


class Span(NamedTuple):
    """Offsets of one partition, from ``start`` up to and without ``end``."""

    start: int
    end: int


class LogRange:
    """Reads spans of partitions and stops.

    Parameters
    ----------
    reader
        Used for nothing else meanwhile; whoever made it stops it.
    """

    def __init__(self, reader: PartitionReader, partitions: Collection[TopicPartition]) -> None:
        self._reader = reader
        self._partitions = tuple(partitions)

    async def extent(self) -> dict[TopicPartition, Span]:
        """Return what the log holds of each partition at this moment; raises ``StoreUnavailable``."""
        await self._reader.stop()
        await self._reader.start(dict.fromkeys(self._partitions, -1))
        beginnings, ends = await self._reader.beginning_offsets(), await self._reader.end_offsets()
        return {tp: Span(beginnings[tp], ends[tp]) for tp in self._partitions}

    async def batches(self, spans: Mapping[TopicPartition, Span], max_records: int) -> AsyncIterator[list[Record]]:
        """Yield the records of these spans, each partition's in offset order.

        Raises
        ------
        StoreUnavailable
            The broker sends nothing although there is more.
        RefusedStart
            A span begins before what the log retains.
        """
        left = {tp: span for tp, span in spans.items() if span.start < span.end}
        if not left:
            return
        await self._reader.stop()
        await self._reader.start({tp: span.start for tp, span in left.items()})
        quiet_s = 0.0
        while left:
            records = await self._reader.poll(max_records, _POLL_MS)
            quiet_s = 0.0 if records else quiet_s + _POLL_MS / 1000
            if quiet_s > _SILENCE_S:
                raise StoreUnavailable(f"the broker sent nothing for {_SILENCE_S:.0f} s; see KAFKA_BOOTSTRAP_SERVERS")
            positions = self._reader.positions()
            left = {tp: span for tp, span in left.items() if positions.get(tp, span.start) < span.end}
            yield [each for each in records if each.offset < spans[TopicPartition(each.topic, each.partition)].end]
