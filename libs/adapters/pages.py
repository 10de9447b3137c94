"""Pages for browsers: headers that keep them to themselves, and ``/docs`` without a foreign host."""

import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
# Swagger UI writes style attributes and embeds its icons; scripts come from here alone and never stand in the page.
_CONTENT_SECURITY: Final = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS: Final = (
    (b"content-security-policy", _CONTENT_SECURITY),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_DOCS: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="docs/assets/favicon.png">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = "SwaggerUIBundle({});"


def guarded(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with the request id, and what tells a browser to trust the answer no further.

    A page that sets one of these headers itself keeps its own.
    """
    found = [header for header in headers if header[0] != b"x-request-id"]
    found += [(b"x-request-id", request_id.encode()), _NOSNIFF]
    if any(name == b"content-type" and value.startswith(b"text/html") for name, value in found):
        own = {name for name, _ in found}
        found += [header for header in _PAGE_HEADERS if header[0] not in own]
    return found


def install_docs(app: FastAPI) -> None:
    """Serve Swagger UI at ``/docs`` from the files of the package ``fastapi-offline``; the app has no ``docs_url``."""
    start = _START.format(json.dumps({"url": app.openapi_url, "dom_id": "#docs", "persistAuthorization": False}))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(_DOCS.format(title=escape(app.title)))

    @app.get("/docs/start.js", include_in_schema=False)
    async def start_script() -> Response:
        return Response(start, media_type="text/javascript")

    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")
