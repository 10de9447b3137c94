"""A range of the log: where it begins and ends in each partition, and a reader that sees nothing else."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from libs.adapters.log_range import Span
from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.errors import RefusedStart
from libs.events.topics import CONTENTS
from services.cli.evaluation_input import Bound, Range


async def spans_of(
    reader: PartitionReader, partitions: Sequence[TopicPartition], wanted: Range
) -> dict[TopicPartition, Span]:
    """Return what a range is in each partition, as the log is now.

    A moment is the first record that was appended then or later. Leaves the reader started.

    Raises
    ------
    RefusedStart
        The log does not hold the range, or nothing lies in it; names the option and what the log holds.
    """
    await reader.start(dict.fromkeys(partitions, -1))
    beginnings, ends = await reader.beginning_offsets(), await reader.end_offsets()
    starts = await _offsets(reader, wanted.start, "--from", beginnings, ends, beginnings)
    stops = await _offsets(reader, wanted.end, "--to", beginnings, ends, ends)
    spans = {tp: Span(starts[tp], max(starts[tp], stops[tp])) for tp in partitions}
    if all(span.start == span.end for span in spans.values()):
        held = ",".join(f"{tp.partition}:{beginnings[tp]}-{ends[tp]}" for tp in partitions)
        raise RefusedStart(f"nothing lies between --from and --to; the log holds {held} (partition:offsets)")
    return spans


class RangeReader:
    """The log as if it began and ended where a range does. Commits nothing."""

    def __init__(self, reader: PartitionReader, spans: Mapping[TopicPartition, Span]) -> None:
        self._reader = reader
        self._spans = spans
        self._paused: set[TopicPartition] = set()

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Seek (-1: the beginning of the range)."""
        await self._reader.start({tp: self._spans[tp].start if at < 0 else at for tp, at in offsets.items()})
        self._paused = set()
        self._rest()

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records of the range."""
        found = await self._reader.poll(max_records, timeout_ms)
        self._rest()
        return [each for each in found if each.offset < self._spans[TopicPartition(each.topic, each.partition)].end]

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Stop fetching these partitions, or all."""
        self._reader.pause(partitions)

    def resume(self) -> None:
        """Fetch all partitions again that are not through."""
        self._reader.resume()
        self._paused = set()
        self._rest()

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each partition, at most its end."""
        return {tp: min(at, self._spans[tp].end) for tp, at in self._reader.positions().items()}

    def lag(self) -> dict[TopicPartition, int]:
        """Return how much of the range is left."""
        return {tp: self._spans[tp].end - at for tp, at in self.positions().items()}

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Return where the range ends."""
        return {tp: span.end for tp, span in self._spans.items()}

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Return where the range begins."""
        return {tp: span.start for tp, span in self._spans.items()}

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """Return where a moment begins, within the range."""
        found = await self._reader.offsets_at(at_ms)
        return {tp: min(max(at, self._spans[tp].start), self._spans[tp].end) for tp, at in found.items()}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:  # noqa: ARG002 - the port's
        """Do nothing: whoever reads the past is not the group that lag is shown of."""
        return True

    async def committed(self) -> dict[TopicPartition, int]:
        """Return nothing: no group stands behind it."""
        return {}

    async def stop(self) -> None:
        """Close."""
        await self._reader.stop()

    def _rest(self) -> None:
        """Fetch nothing more of partitions that are through."""
        through = {tp for tp, at in self._reader.positions().items() if at >= self._spans[tp].end}
        if new := through - self._paused:
            self._reader.pause(new)
            self._paused |= new


class CatalogueFirst:
    """Events of the past behind the whole catalogue as it is now.

    The catalogue's topic is compacted: it holds the newest state of a content, at the time of its last change. Read in
    the order of time, a content that was changed lately would have no vector in anything learned before that.

    Parameters
    ----------
    catalogue
        None: contents have no vectors.
    """

    def __init__(self, events: PartitionReader, catalogue: PartitionReader | None) -> None:
        self._events = events
        self._catalogue = catalogue
        self._ends: dict[TopicPartition, int] = {}

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Seek both."""
        await self._events.start({tp: at for tp, at in offsets.items() if tp.topic != CONTENTS})
        if self._catalogue is not None:
            await self._catalogue.start({tp: at for tp, at in offsets.items() if tp.topic == CONTENTS})
            self._ends = await self._catalogue.end_offsets()
        else:
            self._ends = {tp: 0 for tp in offsets if tp.topic == CONTENTS}

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return contents while there are any, at the beginning of time; then events."""
        if self._catalogue is None or all(at >= self._ends[tp] for tp, at in self._catalogue.positions().items()):
            return await self._events.poll(max_records, timeout_ms)
        return [replace(record, append_ms=0) for record in await self._catalogue.poll(max_records, timeout_ms)]

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Stop fetching these partitions, or all."""
        for reader in self._readers:
            own = None if partitions is None else [tp for tp in partitions if tp in reader.positions()]
            reader.pause(own)

    def resume(self) -> None:
        """Fetch all partitions again."""
        for reader in self._readers:
            reader.resume()

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each partition."""
        none = {} if self._catalogue is not None else self._ends
        return none | {tp: at for reader in self._readers for tp, at in reader.positions().items()}

    def lag(self) -> dict[TopicPartition, int]:
        """Return how much is left of each partition."""
        none = {} if self._catalogue is not None else self._ends
        return none | {tp: left for reader in self._readers for tp, left in reader.lag().items()}

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Return where all ends."""
        return self._ends | await self._events.end_offsets()

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Return where all begins."""
        first = dict.fromkeys(self._ends, 0) if self._catalogue is None else await self._catalogue.beginning_offsets()
        return first | await self._events.beginning_offsets()

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """Return where a moment begins among the events."""
        return await self._events.offsets_at(at_ms)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:  # noqa: ARG002 - the port's
        """Do nothing."""
        return True

    async def committed(self) -> dict[TopicPartition, int]:
        """Return nothing: no group stands behind it."""
        return {}

    async def stop(self) -> None:
        """Close both."""
        for reader in self._readers:
            await reader.stop()

    @property
    def _readers(self) -> list[PartitionReader]:
        return [self._events, *([] if self._catalogue is None else [self._catalogue])]


async def _offsets(
    reader: PartitionReader,
    bound: Bound,
    option: str,
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    otherwise: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    if bound.at_ms is not None:
        return await reader.offsets_at(bound.at_ms)
    if unknown := set(bound.offsets) - {tp.partition for tp in ends}:
        raise RefusedStart(f"{option} {min(unknown)}:…: there is no such partition; the last is {len(ends) - 1}")
    found = {tp: bound.offsets.get(tp.partition, at) for tp, at in otherwise.items()}
    for tp, at in found.items():
        if not beginnings[tp] <= at <= ends[tp]:
            raise RefusedStart(
                f"{option} {tp.partition}:{at}: partition {tp.partition} of {tp.topic} holds {beginnings[tp]} to "
                f"{ends[tp]}; give an offset among these"
            )
    return found
