"""Events to bytes and back. Everything behind ``decode_*`` and ``parse_events`` may rely on the types.

One way in for Kafka and HTTP alike: JSON (RFC 8259, UTF-8), then the version, the type, the fields, then how the
fields go together. Fields that version 1 does not know are ignored, so that a newer producer can be read; a field
that is null counts as absent; of a name given twice in one object the last one counts.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, TypeAlias
from uuid import uuid4

import orjson
from pydantic import TypeAdapter, ValidationError

from libs.errors import BadEvent
from libs.events.problems import describe
from libs.events.rules import check_impression, check_interaction
from libs.events.schema import SCHEMA, Content, Erasure, Event, Impression, Interaction, Logged
from libs.events.topics import Origin, event_id_of

MAX_EVENT_BYTES: Final = 262_144
"""Longest document, in bytes. The largest that obeys every field's limit is shorter; anything longer is an attack or a
mistake, and is refused before it is parsed."""

MAX_BATCH_EVENTS: Final = 500
"""Most events in one HTTP body: a body of interactions stays far below the cap of 256 kB."""

Document: TypeAlias = Logged | Content

_IMPRESSION: Final = TypeAdapter(Impression)
_INTERACTION: Final = TypeAdapter(Interaction)
_ERASURE: Final = TypeAdapter(Erasure)
_CONTENT: Final = TypeAdapter(Content)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event of an HTTP body that was not accepted: where it stood, the field at fault, and what to change."""

    index: int
    field: str
    reason: str


def _defaults(cls: type[Document]) -> tuple[tuple[str, object], ...]:
    return tuple(
        (item.name, {} if item.default_factory is not MISSING else item.default)
        for item in fields(cls)
        if item.name not in ("type", "schema")
    )


_DEFAULTS: Final[Mapping[type[Document], tuple[tuple[str, object], ...]]] = {
    cls: _defaults(cls) for cls in (Impression, Interaction, Erasure, Content)
}


def encode(document: Document) -> bytes:
    """Return the document as JSON, fields that hold their default left out.

    Raises
    ------
    BadEvent
        A number is NaN or infinite. Nothing else is checked here: ``decode_*`` is where documents are judged.
    """
    wire: dict[str, object] = {"type": document.type, "schema": document.schema}
    for name, default in _DEFAULTS[type(document)]:
        value = getattr(document, name)
        if value != default:
            wire[name] = value
    encoded = orjson.dumps(wire)
    # orjson writes NaN and infinity as null, and no field above is None: null is either that or part of a text.
    if b"null" in encoded:
        _refuse_null(encoded)
    return encoded


def decode_event(value: bytes | None, origin: Origin | None = None) -> Logged:
    """Return the event in a record's value.

    Parameters
    ----------
    value
        The record's value.
    origin
        Where the record stands. An event without ``event_id`` gets one derived from it, always the same.

    Raises
    ------
    BadEvent
        And nothing else, whatever the bytes: the record goes to the dead letters.
    """
    document = _document(value)
    if origin is not None and "event_id" not in document:
        document["event_id"] = event_id_of(origin)
    return _erasure(document) if document.get("type") == "erasure" else _event(document)


def decode_content(value: bytes | None) -> Content:
    """Return the content in a record's value; a tombstone is for the caller to see.

    Raises
    ------
    BadEvent
        And nothing else, whatever the bytes: the record goes to the dead letters.
    """
    document = _document(value)
    if document.get("type") != "content":
        raise BadEvent("type", 'type: must be "content"', "type")
    try:
        return _CONTENT.validate_python(document)
    except ValidationError as error:
        raise describe(error) from None


def parse_events(body: bytes, max_events: int = MAX_BATCH_EVENTS) -> tuple[list[tuple[int, Event]], list[Rejection]]:
    """Return the good events of an HTTP body with their index, and why the others are not.

    The body is one event or ``{"events": [...]}``. ``event_id`` and ``schema`` may be left out.

    Raises
    ------
    BadEvent
        The body as a whole is wrong: not JSON, no event in it, or more than ``max_events`` (``oversize``).
    """
    good: list[tuple[int, Event]] = []
    bad: list[Rejection] = []
    for index, item in enumerate(_events_of(body, max_events)):
        try:
            good.append((index, _event_of_client(item)))
        except BadEvent as error:
            bad.append(Rejection(index, error.field, error.detail))
    return good, bad


def _events_of(body: bytes, max_events: int) -> list[Any]:
    document = _loads(body)
    if not isinstance(document, dict):
        raise BadEvent("json", 'the body must be one event, or {"events": [...]}')
    if "events" not in document or "type" in document:
        return [document]
    events = document["events"]
    if not isinstance(events, list) or not events:
        raise BadEvent("field", f"events: must be a list of 1 to {max_events} events", "events")
    if len(events) > max_events:
        raise BadEvent("oversize", f"events: at most {max_events} in one request, got {len(events)}", "events")
    return events


def _event_of_client(item: Any) -> Event:
    document = _checked(item)
    if "event_id" not in document:
        document["event_id"] = uuid4().hex
    if document.get("type") == "erasure":
        raise BadEvent("type", "type: an erasure is asked for with DELETE /api/v1/users/{user_id}", "type")
    return _event(document)


def _erasure(document: dict[str, Any]) -> Erasure:
    try:
        return _ERASURE.validate_python(document)
    except ValidationError as error:
        raise describe(error) from None


def _event(document: dict[str, Any]) -> Event:
    kind = document.get("type")
    try:
        if kind == "interaction":
            interaction = _INTERACTION.validate_python(document)
            check_interaction(interaction)
            return interaction
        if kind == "impression":
            impression = _IMPRESSION.validate_python(document)
            check_impression(impression)
            return impression
    except ValidationError as error:
        raise describe(error) from None
    raise BadEvent("type", 'type: must be "impression" or "interaction"', "type")


def _document(value: bytes | None) -> dict[str, Any]:
    if value is None:
        raise BadEvent("json", "the record has no value")
    if len(value) > MAX_EVENT_BYTES:
        raise BadEvent("oversize", f"the record has {len(value)} bytes, at most {MAX_EVENT_BYTES} are allowed")
    return _checked(_loads(value))


def _loads(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadEvent("json", f"not JSON: {error}") from None


def _checked(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise BadEvent("json", "an event must be a JSON object")
    document = {name: value for name, value in item.items() if value is not None} if None in item.values() else item
    schema = document.get("schema", SCHEMA)
    if schema != SCHEMA or type(schema) is not int:  # True == 1 == 1.0
        raise BadEvent("schema", f"schema: must be {SCHEMA}, this reader knows no other", "schema")
    return document


def _refuse_null(encoded: bytes) -> None:
    for name, value in orjson.loads(encoded).items():
        members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        if None in members:
            raise BadEvent("field", f"{name}: must hold finite numbers only", name)
