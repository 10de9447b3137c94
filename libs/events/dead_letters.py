"""What becomes of a record that cannot be used: its bytes as they were, and why, in headers."""

from typing import Final

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

MEANINGS: Final[dict[str, str]] = {
    ORIGIN_TOPIC: "Topic the record was read from.",
    ORIGIN_PARTITION: "Its partition there, in decimal.",
    ORIGIN_OFFSET: "Its offset there, in decimal.",
    ORIGIN_TIMESTAMP_MS: "Its append time, epoch milliseconds, in decimal.",
    ERROR: "Class of the error.",
    REASON: "json, schema, field, type, oversize or poison: the label of the dead-letter counters.",
    FIELD: "Dotted path of the field at fault; empty when the whole document is meant.",
    DETAIL: "What is wrong and what to change, for people.",
    SCHEMA_VERSION: "Schema version the reader knew, in decimal.",
}

_MAX_DETAIL_CHARS = 1_000  # a record of 900 kB and its headers have to fit into one of 1 MB


def dead_letter(
    value: bytes | None, origin: Origin, append_ms: int, error: BadEvent
) -> tuple[bytes | None, tuple[tuple[str, bytes], ...]]:
    """Return value and headers of the dead letter; its key stays the record's own.

    The value is the record's, unchanged, so that it can be repaired and sent again. Headers the record already had
    come before these when the caller keeps them: of two with one name the last one counts.
    """
    headers = {
        ORIGIN_TOPIC: origin.topic,
        ORIGIN_PARTITION: str(origin.partition),
        ORIGIN_OFFSET: str(origin.offset),
        ORIGIN_TIMESTAMP_MS: str(append_ms),
        ERROR: type(error).__name__,
        REASON: error.reason,
        FIELD: error.field[:_MAX_DETAIL_CHARS],
        DETAIL: error.detail[:_MAX_DETAIL_CHARS],
        SCHEMA_VERSION: str(SCHEMA),
    }
    return value, tuple((name, text.encode()) for name, text in headers.items())
