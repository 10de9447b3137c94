"""An export as if it were the log: what a rebuild reads where the topic is gone."""

import asyncio
import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import orjson

from libs.adapters.log_range import Span
from libs.adapters.ports import Record, TopicPartition
from libs.errors import BadEvent, RefusedStart
from libs.events.topics import EVENTS, user_key
from services.cli.evaluation_input import Range
from services.cli.event_lines import Line, lines_of, opened, parse_line


class ExportReader:
    """The lines of an export, each partition's in offset order. Only after ``look``.

    The file is read from its beginning to its end; a partition that is paused is read on with the others.
    """

    def __init__(self, path: Path, wanted: Range) -> None:
        self._path = path
        self._wanted = wanted
        self.spans: dict[TopicPartition, Span] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._lines: Iterator[Record] = iter(())
        self._open = ExitStack()
        self._paused = False
        self.sha256 = ""

    def look(self) -> None:
        """Read the file once: ``spans`` is then what it holds of the range, ``sha256`` what tells it from others.

        Raises
        ------
        RefusedStart
            A line is none of an export, or the range is empty; names the line and the remedy.
        """
        digest = hashlib.sha256()
        with opened(self._path) as file:
            for number, text in lines_of(file):
                digest.update(text)
                if text.strip():
                    self._note(self._record(number, text))
        if not self.spans:
            raise RefusedStart(f"{self._path} holds no event between --from and --to")
        last = max(tp.partition for tp in self.spans)
        self.spans = {
            tp: self.spans.get(tp, Span(0, 0)) for tp in (TopicPartition(EVENTS, number) for number in range(last + 1))
        }
        self.sha256 = digest.hexdigest()

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Open the file and go to these offsets (-1: the beginning)."""
        await self.stop()
        self._positions = {tp: self.spans[tp].start if at < 0 else at for tp, at in offsets.items()}
        self._lines = self._read()

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records, none when all is read."""
        await asyncio.sleep(0)
        found: list[Record] = []
        if not self._paused:
            for record in self._lines:
                found.append(record)
                self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                if len(found) == max_records:
                    break
        if not found:
            await asyncio.sleep(timeout_ms / 1_000)
        return found

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Return nothing more for a while; some partitions alone cannot be held up."""
        self._paused = self._paused or partitions is None

    def resume(self) -> None:
        """Return records again."""
        self._paused = False

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each partition."""
        return dict(self._positions)

    def lag(self) -> dict[TopicPartition, int]:
        """Return how much is left."""
        return {tp: self.spans[tp].end - at for tp, at in self._positions.items()}

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset behind the last line of each partition."""
        return {tp: span.end for tp, span in self.spans.items()}

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the first line of each partition."""
        return {tp: span.start for tp, span in self.spans.items()}

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """Return where a moment begins."""
        found = {tp: span.end for tp, span in self.spans.items()}
        with opened(self._path) as file:
            for record in (self._record(number, text) for number, text in lines_of(file) if text.strip()):
                tp = TopicPartition(record.topic, record.partition)
                if record.append_ms >= at_ms and tp in found:
                    found[tp] = min(found[tp], max(record.offset, self.spans[tp].start))
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:  # noqa: ARG002 - the port's
        """Do nothing."""
        return True

    async def committed(self) -> dict[TopicPartition, int]:
        """Return nothing: no group stands behind it."""
        return {}

    async def stop(self) -> None:
        """Close the file."""
        self._open.close()
        self._lines = iter(())

    def _read(self) -> Iterator[Record]:
        file = self._open.enter_context(opened(self._path))
        for number, text in lines_of(file):
            if not text.strip():
                continue
            record = self._record(number, text)
            at = self._positions.get(TopicPartition(record.topic, record.partition), record.offset)
            if record.offset >= at and self._is_wanted(record):
                yield record

    def _note(self, record: Record) -> None:
        if not self._is_wanted(record):
            return
        tp = TopicPartition(record.topic, record.partition)
        span = self.spans.get(tp, Span(record.offset, record.offset))
        if record.offset < span.end:
            raise RefusedStart(
                f"{self._path}: offset {record.offset} of partition {record.partition} comes behind {span.end - 1}; "
                "rebuild from a file as moard events export wrote it"
            )
        self.spans[tp] = Span(span.start, record.offset + 1)

    def _is_wanted(self, record: Record) -> bool:
        where = (record.partition, record.offset, record.append_ms)
        return not self._wanted.before(*where) and not self._wanted.behind(*where)

    def _record(self, number: int, text: bytes) -> Record:
        try:
            line = parse_line(text)
        except BadEvent as error:
            raise RefusedStart(f"{self._path}, line {number}: {error}. Repair or remove that line") from error
        return _record_of(line, self._path, number)


def _record_of(line: Line, path: Path, number: int) -> Record:
    if line.partition is None or line.offset is None or line.append_ms is None:
        raise RefusedStart(
            f"{path}, line {number}: does not say partition, offset and append_ms; a rebuild needs the order of the "
            "log, as moard events export writes it. Events alone can be imported: moard events import"
        )
    key = user_key(line.event.user_id)
    return Record(EVENTS, line.partition, line.offset, line.append_ms, key, orjson.dumps(line.document))
