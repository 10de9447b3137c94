"""Reading bodies and writing answers: parsed once, straight from and to bytes."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

BodyT = TypeVar("BodyT", bound=BaseModel)

DEGRADED: Final = "Moard-Degraded"
"""Header of an answer that had to do without a part: the reasons, separated by commas. Absent when nothing is away."""


async def read(request: Request, cls: type[BodyT]) -> BodyT:
    """Return the validated JSON body.

    Raises
    ------
    RequestValidationError
        Answered with 422 and each problem's place.
    """
    body = await request.body()
    try:
        return cls.model_validate_json(body)
    except ValidationError as error:
        raise refusal(*error.errors(include_url=False, include_context=False)) from None


def refusal(*problems: Any) -> RequestValidationError:
    """Return the error that answers 422; ``loc`` of each problem is relative to the body."""
    return RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in problems])


def answer(content: Any, status: int = 200, degraded: Sequence[str] = ()) -> Response:
    """Return a JSON answer; numpy arrays are written as they are. ``degraded`` names the parts it does without."""
    headers = {DEGRADED: ",".join(degraded)} if degraded else None
    octets = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(octets, status, headers, media_type="application/json")


def documented(cls: type[BaseModel], **others: Any) -> dict[str, Any]:
    """Return what OpenAPI should say of a body that the handler reads itself."""
    schema = cls.model_json_schema()
    content = {"application/json": {"schema": _inlined(schema, schema.pop("$defs", {}))}, **others}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """Replace references: ``#/$defs`` means nothing in the middle of an OpenAPI document."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
        return {name: _inlined(value, definitions) for name, value in node.items()}
    return [_inlined(item, definitions) for item in node] if isinstance(node, list) else node
