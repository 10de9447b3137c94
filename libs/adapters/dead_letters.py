"""The dead letters as the log has them, for people to look at and to send again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from libs.adapters.log_range import LogRange, Span
from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.events.dead_letters import Letter, letter_of
from libs.events.topics import DEAD_LETTERS

GROUP: Final = "moard-dlq"
"""Group id of readers. They commit nothing; a broker's access lists may want to know the name."""

_AT_ONCE: Final = 100  # letters of up to 1 MB each: what one step of reading may hold in memory


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; None asks for nothing.

    ``topic`` and ``partition`` are those of the origin, ``since_ms`` is the letter's own append time.
    """

    reason: str | None = None
    topic: str | None = None
    partition: int | None = None
    since_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Tell whether a letter is meant."""
        origin = letter.origin
        return (
            (self.reason is None or self.reason == letter.reason)
            and (self.topic is None or self.topic == origin.topic)
            and (self.partition is None or self.partition == origin.partition)
            and (self.since_ms is None or self.since_ms <= letter.append_ms)
        )


EVERY: Final = Wanted()
"""All letters."""


class DeadLetters:
    """Reads the dead-letter topic, bounded by what it holds at that moment; no consumer group.

    Parameters
    ----------
    reader
        Makes the reader of one question: ``KafkaPartitionReader(broker, GROUP)``, in tests
        ``MemoryPartitionReader(log, GROUP)``.
    partitions
        Of the topic.

    Notes
    -----
    Each question opens a connection and closes it. Everything raises ``StoreUnavailable`` without a broker.
    """

    def __init__(self, reader: Callable[[], PartitionReader], partitions: int = 1) -> None:
        self._reader = reader
        self._partitions = [TopicPartition(DEAD_LETTERS, number) for number in range(partitions)]

    async def newest(self, limit: int, wanted: Wanted = EVERY, look_at: int | None = None) -> list[Letter]:
        """Return the newest letters, newest first.

        Parameters
        ----------
        look_at
            Records of a partition, from its end backwards, among which to search; None for all.
        """
        reader = self._reader()
        try:
            log = LogRange(reader, self._partitions)
            found: list[Letter] = []
            for tp, span in (await log.extent()).items():
                oldest = span.start if look_at is None else max(span.start, span.end - look_at)
                found += await _newest(log, tp, Span(oldest, span.end), limit, wanted)
        finally:
            await reader.stop()
        return sorted(found, key=lambda letter: (letter.append_ms, letter.offset), reverse=True)[:limit]

    async def letter(self, partition: int, offset: int) -> Letter | None:
        """Return one letter, None where there is none."""
        reader = self._reader()
        try:
            log = LogRange(reader, self._partitions)
            tp = TopicPartition(DEAD_LETTERS, partition)
            span = (await log.extent()).get(tp)
            if span is None or not span.start <= offset < span.end:
                return None
            found = [each async for batch in log.batches({tp: Span(offset, offset + 1)}, 1) for each in batch]
        finally:
            await reader.stop()
        return _letter(found[0]) if found else None

    async def batches(self, wanted: Wanted = EVERY) -> AsyncIterator[tuple[list[Letter], int, int]]:
        """Yield the letters up to what is the end now, oldest first, with how many were read for them, of how many."""
        reader = self._reader()
        try:
            log = LogRange(reader, self._partitions)
            spans = await log.extent()
            total = sum(span.end - span.start for span in spans.values())
            async for records in log.batches(spans, _AT_ONCE):
                yield [letter for each in records if wanted.takes(letter := _letter(each))], len(records), total
        finally:
            await reader.stop()


async def _newest(log: LogRange, tp: TopicPartition, span: Span, limit: int, wanted: Wanted) -> list[Letter]:
    """Return the newest letters of one partition, oldest first: looked for from the end backwards, in growing steps."""
    found: list[Letter] = []
    end, step = span.end, max(limit, _AT_ONCE)
    while end > span.start and len(found) < limit:
        start = max(span.start, end - step)
        oldest_ms: int | None = None
        taken: list[Letter] = []
        async for records in log.batches({tp: Span(start, end)}, _AT_ONCE):
            oldest_ms = records[0].append_ms if oldest_ms is None and records else oldest_ms
            taken += [letter for each in records if wanted.takes(letter := _letter(each))]
        found = (taken + found)[-limit:]
        if wanted.since_ms is not None and oldest_ms is not None and oldest_ms < wanted.since_ms:
            break  # what lies before is older still
        end, step = start, 2 * step
    return found


def _letter(record: Record) -> Letter:
    return letter_of(record.partition, record.offset, record.append_ms, record.key, record.value, record.headers)
