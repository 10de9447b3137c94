"""Events to evaluate on: a range of the topic, or a file of JSON lines."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from libs.adapters.log_range import LogRange, Span
from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.errors import BadEvent, RefusedStart
from libs.events.codec import decode_event
from libs.events.schema import Erasure, Event, Logged
from libs.events.topics import EVENTS, Origin

BATCH: Final = 2_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One event and where it stood; ``offset`` is None in a file that does not say."""

    partition: int
    offset: int | None
    append_ms: int
    event: Event


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a moment of append time, or an offset for each partition named."""

    at_ms: int | None = None
    offsets: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None, option: str) -> "Bound":
        """Read ``2026-01-31T08:00``, epoch milliseconds, or ``0:1200,1:900``; raises ``RefusedStart``."""
        if text is None:
            return cls()
        try:
            if text.isdecimal():
                return cls(at_ms=int(text))
            if all(part.replace(":", "", 1).isdecimal() for part in text.split(",")):
                pairs = (part.split(":") for part in text.split(","))
                return cls(offsets={int(partition): int(offset) for partition, offset in pairs})
            moment = datetime.fromisoformat(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return cls(at_ms=int(1000 * aware.timestamp()))
        except (ValueError, OverflowError) as error:
            raise RefusedStart(
                f"{option} {text}: give a time (2026-01-31T08:00, UTC unless it says otherwise), epoch milliseconds, "
                "or offsets as partition:offset,partition:offset"
            ) from error


@dataclass(frozen=True, slots=True)
class Range:
    """Which impressions are evaluated: from ``start`` on, up to and without ``end``."""

    start: Bound = Bound()
    end: Bound = Bound()

    def before(self, partition: int, offset: int | None, append_ms: int) -> bool:
        """Tell whether something lies before the range."""
        if self.start.at_ms is not None:
            return append_ms < self.start.at_ms
        return offset is not None and offset < self.start.offsets.get(partition, 0)

    def behind(self, partition: int, offset: int | None, append_ms: int) -> bool:
        """Tell whether something lies behind the range."""
        if self.end.at_ms is not None:
            return append_ms >= self.end.at_ms
        return offset is not None and partition in self.end.offsets and offset >= self.end.offsets[partition]


class Source(Protocol):
    """Where entries come from."""

    bad: list[str]
    """What could not be read, and why."""

    @property
    def total(self) -> int:
        """Size of the whole, in the unit of what ``batches`` reports."""

    def batches(self) -> AsyncIterator[tuple[list[Entry], int]]:
        """Yield entries, each partition's in order, with how much was read for them."""


class FileSource:
    """JSON lines: events as on the wire, or ``{"partition": …, "offset": …, "append_ms": …, "event": {…}}``."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise RefusedStart(
                f"--file {path}: there is no such file; give JSON lines of events (docs/reference/events.md)"
            )
        self._path = path
        self.bad: list[str] = []

    @property
    def total(self) -> int:
        """Bytes."""
        return self._path.stat().st_size

    async def batches(self) -> AsyncIterator[tuple[list[Entry], int]]:
        """Yield the lines' entries in order."""
        for entries, size in self._chunks():
            await asyncio.sleep(0)
            yield entries, size

    def _chunks(self) -> Iterator[tuple[list[Entry], int]]:
        entries: list[Entry] = []
        size, latest_ms = 0, 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                size += len(line)
                if line.strip():
                    try:
                        entry = _entry(line, number, latest_ms)
                    except BadEvent as error:
                        self.bad.append(f"line {number}: {error}")
                        continue
                    if entry is not None:
                        latest_ms = entry.append_ms
                        entries.append(entry)
                if len(entries) >= BATCH:
                    yield entries, size
                    entries, size = [], 0
        yield entries, size


class TopicSource:
    """The topic from the range's start to what is its end now, and so far behind the range as an interaction may come.

    Parameters
    ----------
    patience_ms
        How long after an impression something may still belong to it.
    """

    def __init__(self, reader: PartitionReader, partitions: int, wanted: Range, patience_ms: int) -> None:
        self._log = LogRange(reader, [TopicPartition(EVENTS, number) for number in range(partitions)])
        self._wanted = wanted
        self._patience_ms = patience_ms
        self._spans: dict[TopicPartition, Span] = {}
        self._done: set[int] = set()
        self._last_ms: dict[int, int] = {}
        self.total = 0
        self.bad: list[str] = []

    async def start(self) -> None:
        """Take note of where the range starts and where the log ends now."""
        for tp, held in (await self._log.extent()).items():
            start = max(held.start, self._wanted.start.offsets.get(tp.partition, 0))
            if start > held.end:
                raise RefusedStart(
                    f"--from {tp.partition}:{start}: partition {tp.partition} of {EVENTS} ends at {held.end}; "
                    "give an offset before that"
                )
            self._spans[tp] = Span(start, held.end)
        self.total = sum(span.end - span.start for span in self._spans.values())

    async def batches(self) -> AsyncIterator[tuple[list[Entry], int]]:
        """Yield what lies in the range, and the interactions that may still belong to it."""
        self._done = {tp.partition for tp, span in self._spans.items() if span.start == span.end}
        async for records in self._log.batches(self._spans, BATCH):
            yield [entry for record in records if (entry := self._take(record)) is not None], len(records)
            if len(self._done) == len(self._spans):
                return

    def _take(self, record: Record) -> Entry | None:
        at, offset = record.partition, record.offset
        if offset + 1 >= self._spans[TopicPartition(EVENTS, at)].end:
            self._done.add(at)
        if self._wanted.before(at, offset, record.append_ms):
            return None
        if not self._wanted.behind(at, offset, record.append_ms):
            self._last_ms[at] = record.append_ms
        elif record.append_ms > self._last_ms.get(at, 0) + self._patience_ms:
            self._done.add(at)
            return None
        try:
            return _unless_erasure(at, offset, record.append_ms, decode_event(record.value, Origin(EVENTS, at, offset)))
        except BadEvent as error:
            self.bad.append(f"{EVENTS}:{at} offset {offset}: {error}")
            return None


def _unless_erasure(partition: int, offset: int | None, append_ms: int, event: Logged) -> Entry | None:
    """Return the entry; None for an erasure, which is no evidence of anything."""
    return None if isinstance(event, Erasure) else Entry(partition, offset, append_ms, event)


def _entry(line: bytes, number: int, latest_ms: int) -> Entry | None:
    try:
        document: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadEvent("json", f"not JSON: {error}") from None
    if not isinstance(document, dict) or "event" not in document:
        event = decode_event(line, Origin("file", 0, number))
        return _unless_erasure(0, None, latest_ms if event.timestamp_ms is None else event.timestamp_ms, event)
    where = {name: document.get(name, 0) for name in ("partition", "offset", "append_ms")}
    if wrong := [name for name, value in where.items() if type(value) is not int or value < 0]:
        raise BadEvent("field", f"{wrong[0]}: must be a whole number", wrong[0])
    event = decode_event(orjson.dumps(document["event"]), Origin("file", where["partition"], number))
    append_ms = where["append_ms"] if "append_ms" in document else event.timestamp_ms or latest_ms
    return _unless_erasure(where["partition"], where["offset"] if "offset" in document else None, append_ms, event)
