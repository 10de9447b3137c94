"""The JSON Schema of the documents (draft 2020-12), made from the types, the rules and the meanings."""

from typing import Any, Final

from pydantic import TypeAdapter

from libs.events.meanings import FIELDS
from libs.events.rules import REQUIRED
from libs.events.schema import Content, Erasure, Impression, Interaction

DOCUMENTS: Final = (Impression, Interaction, Erasure, Content)

_UNIQUE: Final = {"slate", "candidates"}  # rules.py refuses the same content twice


def json_schema() -> dict[str, Any]:
    """Return one schema for everything that travels through Kafka; ``$defs`` has each document by its name."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "moard events, version 1",
        "description": (
            "Beyond this schema: history_age_s, scores, log_propensities, choice and advantage are as long as the list "
            "they belong to, the slate is among the candidates, log_propensities never rise. Unknown fields are "
            "ignored; a field that is null is read as absent."
        ),
        "oneOf": [{"$ref": f"#/$defs/{cls.__name__}"} for cls in DOCUMENTS],
        "$defs": {cls.__name__: document_schema(cls) for cls in DOCUMENTS},
    }


def document_schema(cls: type) -> dict[str, Any]:
    """Return the schema of one document, free of references."""
    schema = TypeAdapter(cls).json_schema()
    for name, field in schema["properties"].items():
        schema["properties"][name] = _field(name, field) | {"description": FIELDS[cls.__name__][name]}
    # Ingest and the readers of Kafka fill in a missing event id; without a type nobody knows what it is.
    schema["required"] = ["type", *(name for name in schema["required"] if name != "event_id")]
    schema["description"] = (cls.__doc__ or "").replace("``", "").replace("\n    ", "\n")
    if cls is Interaction:
        schema["allOf"] = [_rule(kind, groups) for kind, groups in REQUIRED.items()]
    return schema


def _field(name: str, field: dict[str, Any]) -> dict[str, Any]:
    without_null = [option for option in field.get("anyOf", ()) if option != {"type": "null"}]
    if len(without_null) == 1:
        field = without_null[0]  # "| None" is Python's word for absent; on the wire the field is left out
    cleaned = {key: value for key, value in field.items() if key != "title"}
    return cleaned | {"uniqueItems": True} if name in _UNIQUE else cleaned


def _rule(kind: str, groups: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    needs: list[dict[str, Any]] = [{"anyOf": [{"required": [name]} for name in group]} for group in groups]
    if ("positions",) in groups:
        needs.append({"properties": {"positions": {"minItems": 1}}})
    return {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"allOf": needs}}
