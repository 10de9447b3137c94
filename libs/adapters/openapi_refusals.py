"""OpenAPI that says how a call may be turned away before its route sees it."""

from typing import Any, Final

from fastapi import FastAPI

from libs.adapters.access import scope_of

_PROBLEM: Final = "Refusal"
_SCHEMA: Final[dict[str, Any]] = {
    "title": _PROBLEM,
    "description": "RFC 9457, with a `detail` that says what to change.",
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "default": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
            "description": "A sentence, or one object for each field at fault.",
        },
        "request_id": {
            "anyOf": [{"type": "string"}, {"type": "null"}],
            "description": "Names the request in the logs.",
        },
    },
}
_ALWAYS: Final = {"431": "Address and headers are too long."}
_ASKED: Final = {
    "401": "The API key is missing, unknown, expired or revoked.",
    "403": "The API key lacks the scope of this call, or a page of a foreign origin asks while there are no keys.",
    "429": "More requests than this caller may send; `Retry-After` says when to try again.",
    "503": "Overloaded, or a store is away; `Retry-After` says when to try again.",
}
_WITH_BODY: Final = {
    "400": "The request cannot be read.",
    "408": "The body did not come in time.",
    "413": "The body is too long.",
    "415": "The body is of a media type that is not taken.",
    "422": "The body cannot be used; `detail` names the fields.",
}


def document_refusals(app: FastAPI) -> None:
    """Add the answers that come from in front of the routes, and the scopes, to what the routes say themselves."""
    generate = app.openapi

    def documented() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if _PROBLEM not in schemas:
            schemas[_PROBLEM] = _SCHEMA
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            for path, item in document["paths"].items():
                for method, operation in item.items():
                    _document(operation, scope_of(method.upper(), path))
        return document

    app.openapi = documented  # type: ignore[method-assign]


def _document(operation: dict[str, Any], scope: str | None) -> None:
    answers = dict(_ALWAYS)
    if scope is not None:
        answers |= _ASKED
        operation["security"] = [{"key": [scope]}, {}]  # without keys in the table nobody is asked for one
    if "requestBody" in operation:
        answers |= _WITH_BODY
    elif operation.get("parameters"):
        answers["422"] = _WITH_BODY["422"]
    for status, description in answers.items():
        given = operation["responses"].setdefault(status, {"description": description})
        if "application/problem+json" not in given.get("content", {}):
            given["content"] = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}}
    operation["responses"] = dict(sorted(operation["responses"].items()))
