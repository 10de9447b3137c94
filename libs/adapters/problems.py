"""Error answers: problem+json (RFC 9457) that keeps FastAPI's ``detail``, and never the text of an exception."""

import json
import math
from collections.abc import Mapping
from http.client import responses
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from libs.errors import StoreUnavailable

REQUEST_ID: Final = "moard.request_id"  # key of the ASGI scope
RETRY_AFTER_S: Final = 1

_SHOWN_CHARACTERS: Final = 200  # of an input that is sent back: enough to recognise it
_SHOWN_ITEMS: Final = 10
_SHOWN_DEPTH: Final = 4
_SHOWN_BITS: Final = 64  # many clients cannot read a longer integer


def problem(
    status: int,
    detail: object,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """Return an error answer. ``detail`` is a sentence, or FastAPI's list of validation errors.

    Parameters
    ----------
    members
        Further members (RFC 9457 §3.2), of values that JSON has.
    """
    title = responses.get(status, "Error")
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": request_id}
    body |= members or {}
    # ASCII, because a lone surrogate that a client sent has no UTF-8
    content = json.dumps(body, ensure_ascii=True, allow_nan=False)
    return Response(content, status, dict(headers or {}), "application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Answer HTTP errors, validation errors and ``StoreUnavailable`` as problems."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StoreUnavailable, _unavailable)


async def _http_error(request: Request, error: Any) -> Response:
    if error.status_code < 200 or error.status_code in (204, 205, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    detail = error.detail if isinstance(error.detail, str) else presentable(error.detail)
    return problem(error.status_code, detail, _id(request), error.headers)


async def _invalid(request: Request, error: Any) -> Response:
    details = [
        {name: presentable(item[name]) for name in ("type", "loc", "msg", "input") if name in item}
        for item in error.errors()
    ]
    return problem(422, details, _id(request))


async def _unavailable(request: Request, _: Exception) -> Response:
    return problem(
        503, "a store this answer needs is away: try again", _id(request), {"Retry-After": str(RETRY_AFTER_S)}
    )


def _id(request: Request) -> str | None:
    found: str | None = request.scope.get(REQUEST_ID)
    return found


def presentable(value: Any, depth: int = _SHOWN_DEPTH) -> Any:
    """Return what JSON can carry of any value, shortened.

    >>> presentable({"a": [float("nan"), bytes([255]), 2**70, None]})
    {'a': ['nan', '�', '1180591620717411303424', None]}
    >>> presentable([[[[["deep"]]]]])
    [[[['…']]]]
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Decimal takes quadratic time, and Python refuses it beyond 4,300 digits
        digits = str if value.bit_length() < 512 else hex
        return value if value.bit_length() < _SHOWN_BITS else _shortened(digits(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return _shortened(bytes(value[:_SHOWN_CHARACTERS]).decode(errors="replace"))
    if isinstance(value, (dict, list, tuple)):
        return _container(value, depth - 1)
    return _shortened(value if isinstance(value, str) else type(value).__name__)


def _container(value: Any, depth: int) -> Any:
    if depth < 0:
        return "…"
    if isinstance(value, dict):
        return {_shortened(str(key)): presentable(item, depth) for key, item in list(value.items())[:_SHOWN_ITEMS]}
    return [presentable(item, depth) for item in value[:_SHOWN_ITEMS]]


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
