"""What becomes of a record that cannot be used: its bytes as they were, and why, in headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from libs.errors import BadEvent
from libs.events.schema import SCHEMA
from libs.events.topics import Origin

ORIGIN_TOPIC: Final = "moard-origin-topic"
ORIGIN_PARTITION: Final = "moard-origin-partition"
ORIGIN_OFFSET: Final = "moard-origin-offset"
ORIGIN_TIMESTAMP_MS: Final = "moard-origin-timestamp-ms"
ERROR: Final = "moard-error"
REASON: Final = "moard-reason"
FIELD: Final = "moard-field"
DETAIL: Final = "moard-detail"
SCHEMA_VERSION: Final = "moard-schema"
TRUNCATED_FROM: Final = "moard-truncated-from-bytes"

MEANINGS: Final[Mapping[str, str]] = {
    ORIGIN_TOPIC: "Topic the record was read from.",
    ORIGIN_PARTITION: "Its partition there, in decimal; like the next two absent where it is not known (poison).",
    ORIGIN_OFFSET: "Its offset there, in decimal.",
    ORIGIN_TIMESTAMP_MS: "Its append time, epoch milliseconds, in decimal.",
    ERROR: "Class of the error.",
    REASON: "json, schema, field, type, oversize or poison: the label of the dead-letter counters.",
    FIELD: "Dotted path of the field at fault; empty when the whole document is meant.",
    DETAIL: "What is wrong and what to change, for people.",
    SCHEMA_VERSION: "Schema version the reader knew, in decimal.",
    TRUNCATED_FROM: "Only when the value was cut: how many bytes it had, in decimal.",
}

NOT_ALWAYS: Final = frozenset({ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP_MS, TRUNCATED_FROM})
"""Headers that a letter may lack."""

Headers: TypeAlias = tuple[tuple[str, bytes], ...]

_MAX_DETAIL_CHARS: Final = 1_000
MAX_VALUE_BYTES: Final = 1_000_000
"""Longest value of a dead letter: with the rest it stays below 1 MiB, the most a broker takes by default. One that the
broker refused would stop its partition for ever."""

_MAX_KEY_BYTES: Final = 4_096  # a user id of 128 characters has at most 512
_MAX_OWN_HEADERS_BYTES: Final = 16_384


class DeadLetter(NamedTuple):
    """Key, value and headers to append to the dead letters."""

    key: bytes | None
    value: bytes | None
    headers: Headers


def dead_letter(
    key: bytes | None, value: bytes | None, own: Headers, origin: Origin, append_ms: int, error: BadEvent
) -> DeadLetter:
    """Return what to append for a record that cannot be used.

    Key, value and its ``own`` headers stay as they were, so that it can be repaired and sent again; only what would
    not fit is cut (the value, which says so) or left out (key, own headers). Own headers come first: of two with one
    name the last one counts. Of the origin, what is negative is not known and left out.
    """
    places = {ORIGIN_PARTITION: origin.partition, ORIGIN_OFFSET: origin.offset, ORIGIN_TIMESTAMP_MS: append_ms}
    headers = {
        ORIGIN_TOPIC: origin.topic,
        **{name: str(number) for name, number in places.items() if number >= 0},
        ERROR: type(error).__name__,
        REASON: error.reason,
        FIELD: error.field[:_MAX_DETAIL_CHARS],
        DETAIL: error.detail[:_MAX_DETAIL_CHARS],
        SCHEMA_VERSION: str(SCHEMA),
    }
    if value is not None and len(value) > MAX_VALUE_BYTES:
        headers[TRUNCATED_FROM] = str(len(value))
        value = value[:MAX_VALUE_BYTES]
    return DeadLetter(
        key if len(key or b"") <= _MAX_KEY_BYTES else None,
        value,
        (*own_headers(own), *((name, text.encode()) for name, text in headers.items())),
    )


def own_headers(headers: Headers) -> Headers:
    """Return a record's headers if there is room for them in a record that carries it further, else none."""
    size = sum(len(name) * 4 + len(text) for name, text in headers)
    return headers if size <= _MAX_OWN_HEADERS_BYTES else ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it lies in its topic, with what its headers say.

    ``origin`` and ``origin_ms`` are where and when the record was first appended, -1 (topic: empty) where the headers
    do not say; ``own`` are the record's own headers, ``truncated_from`` its bytes if its value was cut.
    """

    partition: int
    offset: int
    append_ms: int
    key: bytes | None
    value: bytes | None
    own: Headers
    origin: Origin
    origin_ms: int
    error: str
    reason: str
    field: str
    detail: str
    schema: str
    truncated_from: int | None

    @property
    def id(self) -> str:
        """Name of the letter: partition and offset in the dead-letter topic."""
        return f"{self.partition}:{self.offset}"


def letter_of(
    partition: int, offset: int, append_ms: int, key: bytes | None, value: bytes | None, headers: Headers
) -> Letter:
    """Return what a record of the dead-letter topic says; whoever wrote it, nothing is raised."""
    said = {name: text.decode(errors="replace") for name, text in headers if name in MEANINGS}
    return Letter(
        partition=partition,
        offset=offset,
        append_ms=append_ms,
        key=key,
        value=value,
        own=tuple((name, text) for name, text in headers if name not in MEANINGS),
        origin=Origin(said.get(ORIGIN_TOPIC, ""), _number(said, ORIGIN_PARTITION), _number(said, ORIGIN_OFFSET)),
        origin_ms=_number(said, ORIGIN_TIMESTAMP_MS),
        error=said.get(ERROR, ""),
        reason=said.get(REASON, ""),
        field=said.get(FIELD, ""),
        detail=said.get(DETAIL, ""),
        schema=said.get(SCHEMA_VERSION, ""),
        truncated_from=_number(said, TRUNCATED_FROM) if TRUNCATED_FROM in said else None,
    )


def _number(said: Mapping[str, str], name: str) -> int:
    text = said.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else -1
