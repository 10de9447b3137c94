"""Sending a record again without making another event of it."""

from typing import Any, Final

import orjson

from libs.events.topics import Origin, event_id_of

MISROUTED_FROM: Final = "moard-misrouted-from"
"""Header of an event that moard sent on to the partition of its user: where it was read, topic/partition/offset. A
record that carries it is never sent on again."""

REPLAYED_FROM: Final = "moard-replayed-from"
"""Header of a record that ``moard dlq replay`` sent: the dead letter it was, topic/partition/offset."""


def identified(value: bytes, origin: Origin, append_ms: int) -> bytes:
    """Return a good event's bytes with the id and the time that a reader of ``origin`` gave it.

    Only what is missing is filled in: sent again, from wherever and however often, it is the same event. A negative
    ``append_ms`` is not known.
    """
    document: dict[str, Any] = orjson.loads(value)
    missing: dict[str, Any] = {}
    if document.get("event_id") is None:
        missing["event_id"] = event_id_of(origin)
    if document.get("timestamp_ms") is None and append_ms >= 0:
        missing["timestamp_ms"] = append_ms
    return orjson.dumps(document | missing) if missing else value


def place_of(origin: Origin) -> bytes:
    """Return the text of both headers.

    >>> place_of(Origin("moard.events", 3, 42))
    b'moard.events/3/42'
    """
    return f"{origin.topic}/{origin.partition}/{origin.offset}".encode()
