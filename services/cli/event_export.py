"""A range of the topic into a file: in one order, whole or not at all, and going on where it was interrupted."""

import gzip
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson
from rich.progress import Progress

from libs.adapters.log_range import Span
from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.errors import BadEvent, RefusedStart, StoreUnavailable
from libs.events.topics import EVENTS
from services.cli.event_lines import STANDARD, is_compressed, line_of
from services.cli.range_reader import RangeReader
from services.learner.records import MergedRecords

CHUNK: Final = 5_000  # lines between two moments to go on from: a second's work, and a good size to compress
SHOWN: Final = 20  # events of which it is said in full why they cannot be used
_POLL_RECORDS: Final = 2_000
_POLL_MS: Final = 500
_SILENCE_S: Final = 30.0  # a broker that has records and sends none


@dataclass(frozen=True, slots=True)
class Progressed:
    """What an export is about and how far it came; kept beside the unfinished file.

    ``spans`` and ``position`` are by partition, ``size_bytes`` is how much of the file counts.
    """

    cluster_id: str
    asked: tuple[str, str]
    spans: tuple[Span, ...]
    position: tuple[int, ...]
    size_bytes: int = 0
    lines: int = 0
    unusable: int = 0
    reasons: tuple[str, ...] = field(default=())

    def went_on(self, records: list[Record], size_bytes: int, reasons: list[str]) -> "Progressed":
        """Return it after some more records, of which some could not be used."""
        position = list(self.position)
        for record in records:
            position[record.partition] = record.offset + 1
        return replace(
            self,
            position=tuple(position),
            size_bytes=size_bytes,
            lines=self.lines + len(records) - len(reasons),
            unusable=self.unusable + len(reasons),
            reasons=(*self.reasons, *reasons)[:SHOWN],
        )


class ExportFile:
    """A file that is there once it is whole; until then ``FILE.part`` and ``FILE.part.json`` beside it.

    Each chunk is compressed by itself, so that the file can be cut behind any of them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.part.json")
        self._compressed = is_compressed(path)
        if path.exists():
            raise RefusedStart(f"{path} is there already: name another file, or remove it")

    def begun(self, cluster_id: str, asked: tuple[str, str]) -> Progressed | None:
        """Return how far an interrupted export of this range came, None without one; refuses one of another range."""
        try:
            found = _state_of(orjson.loads(self._state.read_bytes()))
        except FileNotFoundError:
            return None
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise RefusedStart(
                f"{self._state} cannot be read: {error}. Remove it and {self._part} to begin again"
            ) from error
        if (found.cluster_id, found.asked) != (cluster_id, asked):
            raise RefusedStart(
                f"{self._part} is an interrupted export from {found.asked[0] or 'the beginning'} to "
                f"{found.asked[1] or 'the end'} of Kafka cluster {found.cluster_id}: repeat that command to go on with "
                "it, or remove the file and begin again"
            )
        return found

    def open(self, state: Progressed) -> None:
        """Cut off what came after the last whole chunk."""
        try:
            with self._part.open("ab") as part:
                part.truncate(state.size_bytes)
        except OSError as error:
            raise RefusedStart(f"{self._part} cannot be written: {error.strerror}") from error
        self.note(state)

    def append(self, lines: list[bytes]) -> int:
        """Append a chunk and return the size of the file, once the disk has it."""
        content = b"".join(lines)
        with self._part.open("ab") as part:
            if content:
                part.write(gzip.compress(content, 6, mtime=0) if self._compressed else content)
            part.flush()
            os.fsync(part.fileno())
            return part.tell()

    def note(self, state: Progressed) -> None:
        """Remember how far it came."""
        aside = self._state.with_suffix(".tmp")
        aside.write_bytes(orjson.dumps(asdict(state), default=tuple))
        aside.replace(self._state)

    def finish(self) -> None:
        """Give the file its name."""
        self._part.replace(self._path)
        self._state.unlink(missing_ok=True)


class StandardOutput:
    """The same for a pipe, which cannot go on later."""

    def begun(self, cluster_id: str, asked: tuple[str, str]) -> Progressed | None:  # noqa: ARG002 - as the file's
        """Return None."""
        return None

    def open(self, state: Progressed) -> None:
        """Do nothing."""

    def append(self, lines: list[bytes]) -> int:
        """Write a chunk."""
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
        return 0

    def note(self, state: Progressed) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


def sink_of(path: Path) -> ExportFile | StandardOutput:
    """Return where lines go; raises ``RefusedStart`` for a file that is there already."""
    return StandardOutput() if path == STANDARD else ExportFile(path)


async def export(
    reader: PartitionReader, state: Progressed, sink: ExportFile | StandardOutput, bar: Progress
) -> Progressed:
    """Write what is left of a range, in the order of the whole log; the same range gives the same bytes.

    Raises ``StoreUnavailable`` when the broker falls silent; the next run goes on from there.
    """
    spans = {TopicPartition(EVENTS, number): Span(*span) for number, span in enumerate(state.spans)}
    records = MergedRecords(RangeReader(reader, spans), CHUNK, {tp: span.end for tp, span in spans.items()})
    sink.open(state)
    task = bar.add_task("exporting", total=sum(span.end - span.start for span in spans.values()))
    bar.advance(task, sum(at - span.start for at, span in zip(state.position, spans.values(), strict=True)))
    await records.start({tp: state.position[tp.partition] for tp in spans})
    quiet_s = 0.0
    while not records.finished:
        pending = records.pending
        found = await records.take(_POLL_RECORDS, _POLL_MS)
        quiet_s = 0.0 if found or records.pending > pending else quiet_s + _POLL_MS / 1_000
        if quiet_s > _SILENCE_S:
            raise StoreUnavailable(f"the broker sent nothing for {_SILENCE_S:.0f} s; the same command goes on later")
        if found:
            lines, reasons = _lines(found)
            state = state.went_on(found, sink.append(lines), reasons)
            sink.note(state)
            bar.advance(task, len(found))
    sink.finish()
    return state


def _lines(records: list[Record]) -> tuple[list[bytes], list[str]]:
    lines, reasons = [], []
    for record in records:
        try:
            lines.append(line_of(record))
        except BadEvent as error:
            reasons.append(f"{record.topic}:{record.partition} offset {record.offset}: {error}")
    return lines, reasons


def _state_of(document: Mapping[str, Any]) -> Progressed:
    spans = tuple(Span(*span) for span in document["spans"])
    lists = {name: tuple(document[name]) for name in ("asked", "position", "reasons")}
    return Progressed(**(dict(document) | lists | {"spans": spans}))
