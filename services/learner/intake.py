"""From records to events: decode, send on what cannot be used here, keep count of offsets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from libs.adapters.ports import Outgoing, PartitionReader, Producer, Record, TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import BadEvent
from libs.events.codec import decode_content, decode_event
from libs.events.dead_letters import dead_letter
from libs.events.schema import Logged
from libs.events.topics import DEAD_LETTERS, EVENTS, Origin
from libs.rl.poison import Poisoned
from services.learner.attribution import Arrival, Attribution
from services.learner.poisoned import POISON, letters_of
from services.learner.records import Records
from services.learner.strays import Strays

log = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")

_KEEP_S: Final = 10.0
_RETRY_S: Final = 1.0
_REMEDY: Final = "set the producer's partitioner to murmur2 of the user id (librdkafka: partitioner=murmur2_random)"
_SHOWN_BUSY_S: Final = 0.5  # far below the watchdog's patience
_AGES_A_BATCH: Final = 16  # enough for a distribution; observing each event would cost as much as joining it


@dataclass(frozen=True, slots=True)
class PutContent:
    """What is known of a content now: its vector, None while it has none, and whether it may be shown."""

    content_id: int
    vector: tuple[float, ...] | None
    hidden: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """What one turn of the loop works on; partitions in ``idle_ms`` hold nothing else appended before that time."""

    arrivals: list[Arrival] = field(default_factory=list)
    contents: list[PutContent] = field(default_factory=list)
    dead_events: int = 0
    idle_ms: Mapping[int, int] = field(default_factory=dict)


class EventIntake:
    """The learner's partitions as a sequence of batches.

    ``positions`` are the offsets after the batch yielded last: what a checkpoint taken now contains. ``records`` reads
    from ``reader``, in the order of the schedule. ``dead_letters`` takes what cannot be used, and events that lie in a
    wrong one of the ``partitions``.
    """

    def __init__(
        self,
        reader: PartitionReader,
        records: Records,
        dead_letters: Producer,
        metrics: LearnerMetrics,
        clock_ms: Callable[[], int],
        vector_size: int,
        idle_poll_ms: int,
        partitions: int,
    ) -> None:
        self._reader = reader
        self._records = records
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._vector_size = vector_size
        self._idle_poll_ms = idle_poll_ms
        self._partitions = partitions
        self._strays = Strays(partitions)
        self._positions: dict[TopicPartition, int] = {}
        self._appended_ms: dict[TopicPartition, int] = {}
        self._stopping = False
        self._paused = False
        self._told = False
        self.busy_at_ms = clock_ms()

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Seek to these offsets (-1: the beginning)."""
        self._positions = await self._records.start(offsets)
        self.busy_at_ms = self._clock_ms()  # a start over a slow path is no silence of the log's

    async def ask_committed(self) -> None:
        """Ask up to which offsets strays were sent on: to what a checkpoint contained when it was committed.

        A learner that begins again from the start of the log must not send on for a second time what was sent on days
        ago: the ids of the first time have left the dedup window by the time that the second comes. Raises
        ``StoreUnavailable``.
        """
        committed, ends = await self._reader.committed(), await self._reader.end_offsets()
        of_this_log = {tp: offset for tp, offset in committed.items() if offset <= ends.get(tp, 0)}
        self._strays.start(of_this_log)

    async def batches(self, max_records: int) -> AsyncIterator[Batch]:
        """Yield what arrives until ``stop`` or the log's end, and an empty batch after each idle moment."""
        while not (self._stopping or self._records.finished):
            records = await self._idle() if self._paused else await self._records.take(max_records, self._idle_poll_ms)
            batch = await self._decode(records)
            self._settle(records)
            yield batch

    async def hold(self, waiting: Awaitable[ResultT]) -> ResultT:
        """Wait for something and read nothing meanwhile: one answer of the broker is kept for each partition.

        The learner is in no group, so nobody takes its silence for an end.
        """
        task = asyncio.ensure_future(waiting)
        while task in (await asyncio.wait([task], timeout=_SHOWN_BUSY_S))[1]:
            self.busy_at_ms = self._clock_ms()
        return await task

    def allow(self, reading: bool) -> None:
        """Read on, or yield empty batches until reading is allowed again."""
        if self._paused == reading:
            self._paused = not reading
            log.warning("intake.resumed" if reading else "intake.paused")
            if reading:
                self._reader.resume()
            else:
                self._reader.pause()

    def stop(self) -> None:
        """End ``batches`` after the batch at hand."""
        self._stopping = True

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each partition after the batch yielded last."""
        return dict(self._positions)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Show offsets to lag tools; nothing else reads them."""
        if not await self._reader.commit(offsets):
            self._metrics.commit_failures.inc()

    def known_idle(self, ends: Mapping[TopicPartition, int], asked_ms: int) -> None:
        """Note the log ends as of a moment: a partition read up to its end holds nothing appended before that."""
        for tp, end in ends.items():
            self._records.known_idle(tp, end, self._positions.get(tp, 0), asked_ms)

    def waiting_since_ms(self, tp: TopicPartition) -> int:
        """Return a lower bound of the append time of the next record to read."""
        passed_ms = self._records.passed_ms().get(tp.partition, 0) if tp.topic == EVENTS else 0
        return max(self._appended_ms.get(tp, 0), passed_ms)

    @property
    def pending(self) -> int:
        """Records that were read and wait for what comes before them."""
        return self._records.pending

    async def _idle(self) -> list[Record]:
        self.busy_at_ms = self._clock_ms()  # nothing arrives because nothing may
        return await self._reader.poll(1, self._idle_poll_ms)  # paused: returns nothing

    async def _decode(self, records: list[Record]) -> Batch:
        batch = Batch(idle_ms=self._records.passed_ms())
        refused: list[tuple[Record, BadEvent]] = []
        strays: list[tuple[Record, Logged]] = []
        for record in records:
            try:
                if record.topic != EVENTS:
                    batch.contents.append(self._content(record))
                    continue
                event = decode_event(record.value, Origin(record.topic, record.partition, record.offset))
                if self._strays.strayed(record, event):
                    strays.append((record, event))
                else:
                    batch.arrivals.append(Arrival(record.partition, record.append_ms, event))
            except BadEvent as error:
                refused.append((record, error))
        if strays:
            await self._send_on(strays)
        if refused:
            await self._bury(refused)
        dead_events = sum(record.topic == EVENTS for record, _ in refused)
        return replace(batch, dead_events=dead_events)

    def _content(self, record: Record) -> PutContent:
        if record.value is None:
            return PutContent(_content_id(record.key), None, hidden=True)
        content = decode_content(record.value)
        vector = content.embedding
        if vector is not None and len(vector) != self._vector_size:
            detail = f"embedding: has {len(vector)} numbers, this installation uses {self._vector_size}"
            raise BadEvent("field", detail, "embedding")
        return PutContent(content.content_id, vector, content.hidden)

    async def bury_rows(self, found: list[Poisoned], attribution: Attribution) -> None:
        """Keep what is known of rows that were taken out of training; before any checkpoint that lacks them."""
        if found:
            await self._keep(letters_of(found, attribution, self._partitions))
            self._metrics.dead_letters.labels(POISON).inc(len(found))

    async def _send_on(self, strays: list[tuple[Record, Logged]]) -> None:
        found = [outgoing for record, event in strays if (outgoing := self._strays.outgoing(record, event))]
        await self._keep(found)
        self._metrics.misrouted.labels("sent_on").inc(len(found))
        self._metrics.misrouted.labels("known").inc(len(strays) - len(found))
        if found and not self._told:
            self._told = True  # a client with another partitioner strays for three events in four
            log.warning("events.misrouted", first=found[0].headers[-1][1].decode(), records=len(found), remedy=_REMEDY)

    async def _bury(self, refused: list[tuple[Record, BadEvent]]) -> None:
        await self._keep([_outgoing(record, error) for record, error in refused])
        for record, error in refused:
            self._metrics.dead_letters.labels(error.reason).inc()
            log.warning(
                "record.dead_lettered",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=error.reason,
                detail=error.detail,
            )

    async def _keep(self, waiting: Sequence[Outgoing]) -> None:
        """Append until the broker has all of them: going on before that could lose one."""
        while waiting:
            kept = await self._dead_letters.append(waiting, _KEEP_S)
            waiting = [record for record, acknowledged in zip(waiting, kept, strict=True) if not acknowledged]
            if waiting:
                log.warning("intake.delayed", topic=waiting[0].topic, records=len(waiting))
                await asyncio.sleep(_RETRY_S)

    def _settle(self, records: list[Record]) -> None:
        now_ms = self._clock_ms()
        counts: Counter[TopicPartition] = Counter()
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            counts[tp] += 1
            self._positions[tp] = record.offset + 1
            self._appended_ms[tp] = record.append_ms
        for tp, count in counts.items():
            self._metrics.consumed.labels(tp.topic, str(tp.partition)).inc(count)
        if records:
            self.busy_at_ms = now_ms
        for record in records[:: 1 + len(records) // _AGES_A_BATCH]:
            if record.topic == EVENTS:
                self._metrics.event_age.labels("arrival").observe(max(0, now_ms - record.append_ms) / 1000)


def _content_id(key: bytes | None) -> int:
    text = (key or b"").decode(errors="replace")
    if not text.isascii() or not text.isdecimal():
        raise BadEvent("field", "the key of a tombstone must be a content id in decimal", "key")
    return int(text)


def _outgoing(record: Record, error: BadEvent) -> Outgoing:
    origin = Origin(record.topic, record.partition, record.offset)
    letter = dead_letter(record.key, record.value, record.headers, origin, record.append_ms, error)
    return Outgoing(DEAD_LETTERS, letter.key, letter.value, letter.headers)
