"""What both HTTP services have at their edges, as pure ASGI: request ids, errors, metrics.

In this order, from the outside: ``Edge`` here, who may call (``access.py``), how often and how large
(``http_limits.py``). Pages are in ``pages.py``, what OpenAPI says of all this in ``openapi_refusals.py``.
"""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from libs.adapters.access import Access, Callers
from libs.adapters.http_limits import BodyCaps, Sizes, Throttle
from libs.adapters.http_settings import Limits
from libs.adapters.metrics import HttpMetrics
from libs.adapters.openapi_refusals import document_refusals
from libs.adapters.pages import guarded, install_docs
from libs.adapters.problems import REQUEST_ID, install_problems, problem

log = structlog.get_logger(__name__)

_REQUEST_ID_SHAPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # others would break log lines
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_EVENTS: Final = b"text/event-stream; charset=utf-8"
_CLIENT_GONE: Final = 499  # nginx's status for it; never sent


def install_edges(
    app: FastAPI,
    metrics: HttpMetrics,
    registry: CollectorRegistry,
    *,
    body_max_bytes: int,
    body_max_bytes_of: Mapping[str, int] | None = None,
    before_scrape: Callable[[], None] | None = None,
    callers: Callers | None = None,
    limits: Limits | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> None:
    """Give an application its error answers, request ids, latency histogram, limits, ``/metrics`` and ``/docs``.

    Call it before adding middleware of the service's own that has to see errors too (CORS).

    Parameters
    ----------
    body_max_bytes_of
        Caps of single paths, where they differ.
    before_scrape
        Called before each scrape, to set gauges that would otherwise be old.
    callers
        Who may call; by default everybody, as on loopback without keys.
    limits
        None: no deadline, no rate.
    exposition
        Returns the metrics to answer with, instead of the registry's.
    """
    limits = limits or Limits()
    install_problems(app)
    document_refusals(app)
    install_docs(app)
    caps = BodyCaps(body_max_bytes, dict(body_max_bytes_of or {}))
    app.add_middleware(Sizes, caps=caps, deadline_s=limits.body_deadline_s, metrics=metrics)
    app.add_middleware(Throttle, limits=limits, metrics=metrics)
    app.add_middleware(Access, callers=callers or Callers(), metrics=metrics)
    app.add_middleware(Edge, metrics=metrics)

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        if before_scrape is not None:
            before_scrape()
        text = generate_latest(registry) if exposition is None else await exposition()
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class Edge:
    """Names each request, times it by route template and status, and answers what nothing else caught."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, _request_id(scope))
        scope[REQUEST_ID] = answer.request_id
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=answer.request_id):
            try:
                await self._app(scope, receive, answer.send)
            except ClientDisconnect:
                answer.status = answer.status or _CLIENT_GONE
            except Exception:
                log.exception("http.failed", method=scope["method"], path=scope["path"])
                if answer.status:  # half an answer is out: only the server can still end it, by hanging up
                    raise
                failure = problem(
                    500, "something went wrong here; the request id finds it in the log", answer.request_id
                )
                await failure(scope, receive, answer.send)
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "OTHER"
                if not answer.endless:
                    series = self._metrics.requests.labels(method, _template(scope), str(answer.status or 500))
                    series.observe(time.perf_counter() - started)


class _Answer:
    """Notes the status on its way out, adds the request id, and tells browsers to be careful with it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.endless = False  # a stream of events: how long it was watched is no latency

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.endless = (b"content-type", _EVENTS) in message.get("headers", ())
            message["headers"] = guarded(message.get("headers", ()), self.request_id)
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID_SHAPE.fullmatch(given) else uuid.uuid4().hex


def _template(scope: Scope) -> str:
    """Return the route's path with its parameters' names; one label for all that no route matched."""
    included = scope.get("fastapi", {}).get("effective_route_context")  # knows the prefix of an included router
    path = getattr(included, "path", None) or getattr(scope.get("route"), "path", None)
    return str(path) if path else "unmatched"
