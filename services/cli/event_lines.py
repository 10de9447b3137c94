"""Events as JSON lines: ``{"partition": …, "offset": …, "append_ms": …, "event": {…}}``, or events alone."""

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import orjson

from libs.adapters.ports import Record
from libs.errors import BadEvent, RefusedStart
from libs.events.codec import MAX_EVENT_BYTES, decode_event
from libs.events.schema import Logged
from libs.events.topics import EVENTS, Origin, event_id_of

STANDARD: Final = Path("-")
"""Standard input or output in place of a file."""

_MAX_LINE_BYTES: Final = MAX_EVENT_BYTES + 1_000  # what stands around the event takes less
_PLACE: Final = ("partition", "offset", "append_ms")


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a file and where it stood in the log; a bare event says nothing of that."""

    document: dict[str, Any]
    event: Logged
    partition: int | None = None
    offset: int | None = None
    append_ms: int | None = None


def is_compressed(path: Path) -> bool:
    """Tell by the name whether a file is gzip; raises ``RefusedStart`` for what cannot be read."""
    if path.suffix in (".zst", ".bz2", ".xz", ".zip"):
        raise RefusedStart(
            f"{path}: only .gz is read and written; for others use a pipe: moard events export - | zstd > {path}"
        )
    return path.suffix == ".gz"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of lines by its name, ``-`` for standard input; raises ``RefusedStart``."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    compressed = is_compressed(path)
    if not path.is_file():
        raise RefusedStart(f"{path}: there is no such file; moard events export writes one")
    try:
        with gzip.open(path, "rb") if compressed else path.open("rb") as lines:
            yield cast(IO[bytes], lines)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RefusedStart(f"{path} is not whole: {error}. Export or copy it again") from error
    except PermissionError as error:
        raise RefusedStart(f"{path} cannot be read: {error.strerror}") from error


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line; what is longer than any event ends at its limit, and is refused there."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        yield number, line
        while len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(_MAX_LINE_BYTES)


def parse_line(text: bytes) -> Line:
    """Return what a line says.

    An event without an id gets the one that the learner gave it where it stood, so that it is the same event again.

    Raises
    ------
    BadEvent
        It says what has to be changed.
    """
    if len(text) >= _MAX_LINE_BYTES:
        raise BadEvent("oversize", f"longer than any event ({MAX_EVENT_BYTES:,} bytes)")
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadEvent("json", f"not JSON: {error}") from None
    if not isinstance(document, dict) or "event" not in document:
        event = decode_event(text)
        return Line(dict(document), event)
    place = {name: document.get(name) for name in _PLACE}
    if wrong := [name for name, value in place.items() if value is not None and (type(value) is not int or value < 0)]:
        raise BadEvent("field", f"{wrong[0]}: must be a whole number of at least 0", wrong[0])
    origin = None
    if place["partition"] is not None and place["offset"] is not None:
        origin = Origin(EVENTS, place["partition"], place["offset"])
    event = decode_event(orjson.dumps(document["event"]), origin)
    return Line(_with_id(document["event"], origin), event, **place)


def line_of(record: Record) -> bytes:
    """Return a record as a line, its event with an id and otherwise as it was sent; raises ``BadEvent``."""
    origin = Origin(record.topic, record.partition, record.offset)
    decode_event(record.value, origin)
    document = _with_id(orjson.loads(record.value or b""), origin)
    place = {"partition": record.partition, "offset": record.offset, "append_ms": record.append_ms}
    return orjson.dumps(place | {"event": document}, option=orjson.OPT_APPEND_NEWLINE)


def _with_id(document: dict[str, Any], origin: Origin | None) -> dict[str, Any]:
    if origin is None or document.get("event_id") is not None:
        return document
    return document | {"event_id": event_id_of(origin)}
