"""Ingest, the way in: HTTP → Kafka, and into user histories before the answer.

    POST /api/v1/events          interactions and impressions
    PUT  /api/v1/contents/{id}   the catalogue
    DELETE /api/v1/users/{id}    the request to forget a user

Beside it run the history projector (``projector.py``) and the catalogue follower (``catalogue.py``).
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import compress
from operator import not_

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import Response

from libs.adapters.access import Callers
from libs.adapters.http import install_edges
from libs.adapters.keys import KeyRing
from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import Outgoing, Producer
from libs.adapters.problems import REQUEST_ID
from libs.errors import BadEvent, StoreUnavailable
from libs.events.codec import encode, parse_events
from libs.events.schema import Event
from libs.events.topics import EVENTS, user_key
from services.ingest import answers, openapi
from services.ingest.answers import Answer
from services.ingest.contents import ContentIntake
from services.ingest.erasure import Erasures
from services.ingest.history import PromptHistory
from services.ingest.own_writes import OwnWrites
from services.ingest.settings import Settings


class EventIntake:
    """Takes events in. Acknowledged means kept: 202 is said of what the broker has, and of nothing else.

    Parameters
    ----------
    own_writes
        Tells the projector beside us what it need not write again.
    """

    def __init__(
        self,
        producer: Producer,
        history: PromptHistory,
        own_writes: OwnWrites,
        metrics: IngestMetrics,
        settings: Settings,
    ) -> None:
        self._producer = producer
        self._history = history
        self._own_writes = own_writes
        self._metrics = metrics
        self._append_deadline_s = settings.ingest_append_deadline_ms / 1_000
        self._max_waiting = settings.ingest_unacknowledged_records
        self._retry_after_s = settings.ingest_retry_after_s

    async def accept(self, body: bytes) -> Answer:
        """Check, append, remember, answer; what is wrong or was not kept is named, event by event."""
        if self._producer.pending >= self._max_waiting:
            return answers.overloaded(self._retry_after_s)
        try:
            good, errors = parse_events(body)
        except BadEvent as error:
            return answers.refused(error, errors=[])
        self._count("rejected", len(errors))
        if not good:
            return answers.rejected(errors)
        kept, lost = await self._keep(good)
        self._count("accepted", len(kept))
        self._count("unavailable", len(lost))
        if lost:
            return answers.unacknowledged(lost, kept, errors, self._retry_after_s)
        return answers.accepted(kept, errors)

    async def _keep(self, good: Sequence[tuple[int, Event]]) -> tuple[list[Event], list[tuple[int, Event]]]:
        """Append, write histories, and return the events that the broker has, and those that it may not have."""
        values = [encode(event) for _, event in good]
        keys = (user_key(event.user_id) for _, event in good)
        records = [Outgoing(EVENTS, key, value) for key, value in zip(keys, values, strict=True)]
        claim, written, lost = self._own_writes.claim(values), False, values
        try:
            acknowledged = await self._producer.append(records, self._append_deadline_s)
            kept = [event for _, event in compress(good, acknowledged)]
            lost = list(compress(values, map(not_, acknowledged)))
            written = bool(kept) and await self._history.write(kept)
            return kept, list(compress(good, map(not_, acknowledged)))
        finally:
            self._own_writes.settle(claim, written, lost)

    def _count(self, result: str, events: int) -> None:
        self._metrics.events.labels(result).inc(events)


def create_app(
    events: EventIntake,
    contents: ContentIntake,
    erasures: Erasures,
    waiting_for: Callable[[], Awaitable[list[str]]],
    *,
    metrics: IngestMetrics,
    registry: CollectorRegistry,
    settings: Settings,
    keys: KeyRing | None = None,
    before_scrape: Callable[[], None] | None = None,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Return the HTTP application.

    Parameters
    ----------
    waiting_for
        Names what is missing before requests should come, empty when ready.
    keys
        None asks no caller for one.
    """
    app = FastAPI(
        title="moard ingest",
        version="1",
        summary="Events and contents on their way into the log.",
        docs_url=None,  # install_edges serves it, without a foreign host
        redoc_url=None,
        lifespan=lifespan,
    )
    install_edges(
        app,
        metrics.http,
        registry,
        body_max_bytes=settings.ingest_body_max_bytes,
        before_scrape=before_scrape,
        callers=Callers(keys, settings.ingest_host, settings.allow_insecure),
        limits=settings.http_limits,
    )

    @app.post("/api/v1/events", **openapi.EVENTS)
    async def post_events(request: Request) -> Response:
        return _response(request, await events.accept(await request.body()))

    @app.put("/api/v1/contents/{content_id}", **openapi.CONTENTS)
    async def put_content(content_id: str, request: Request) -> Response:
        try:
            put = await contents.put(content_id, await request.body())
        except BadEvent as error:
            return _response(request, answers.refused(error))
        except StoreUnavailable as error:
            return _response(
                request, answers.unavailable(f"{error}; send the request again", settings.ingest_retry_after_s)
            )
        return _response(request, answers.put_done(put))

    _add_users(app, erasures, settings.ingest_retry_after_s)
    _add_probes(app, waiting_for, settings.ingest_retry_after_s)
    return app


class _AnyText(PathConvertor):
    """A user id is any text, line breaks too, which ``path`` stops at."""

    regex = r"[\s\S]*"


def _add_users(app: FastAPI, erasures: Erasures, retry_after_s: int) -> None:
    register_url_convertor("text", _AnyText())

    @app.delete("/api/v1/users/{user_id:text}", **openapi.USERS)
    async def delete_user(user_id: str, request: Request) -> Response:
        try:
            requested = await erasures.request(user_id)
        except BadEvent as error:
            return _response(request, answers.refused(error))
        except StoreUnavailable as error:
            detail = f"{error}; send the request again"
            return _response(request, answers.unavailable(detail, retry_after_s))
        return _response(request, answers.erasure_requested(requested))


def _add_probes(app: FastAPI, waiting_for: Callable[[], Awaitable[list[str]]], retry_after_s: int) -> None:
    @app.get("/healthz", tags=["service"])
    async def healthz(request: Request) -> Response:
        """Answer as long as the process runs."""
        return _response(request, Answer(200, {"status": "ok"}))

    @app.get("/readyz", tags=["service"], responses={503: {"description": "Names what is missing."}})
    async def readyz(request: Request) -> Response:
        """Answer 200 while the topics are there and the broker answers."""
        missing = await waiting_for()
        if missing:
            return _response(request, answers.not_ready(missing, retry_after_s))
        return _response(request, Answer(200, {"ready": True, "waiting_for": []}))


def _response(request: Request, answer: Answer) -> Response:
    return answer.response(request.scope.get(REQUEST_ID))
