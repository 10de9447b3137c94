"""The HTTP face of serving: routes over the parts, errors with a place, CORS on every answer."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from libs.adapters.access import Callers
from libs.adapters.http import install_edges
from services.serving.assembly import Serving
from services.serving.bodies import DEGRADED, answer
from services.serving.console.routes import install_console
from services.serving.embeddings import embeddings
from services.serving.model_routes import model_routes
from services.serving.predictions import predictions
from services.serving.rankings import rankings
from services.serving.routing import PREFIX
from services.serving.schemas import Message
from services.serving.training_tasks import training


def create_app(
    serving: Serving,
    crashed: Callable[[BaseException], None] | None = None,
    admitted: contextlib.AbstractAsyncContextManager[None] | None = None,
    exposition: Callable[[], Awaitable[bytes]] | None = None,
) -> FastAPI:
    """Return the application; its lifespan runs the background work.

    Parameters
    ----------
    crashed
        Told when a background task ended with an error.
    admitted
        Entered before the first request is taken, left when the last one is answered.
    exposition
        Returns what ``GET /metrics`` answers, where that is more than this process's registry.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with serving.running(crashed), admitted or contextlib.nullcontext():
            yield

    app = FastAPI(
        title="moard serving",
        version="1",
        summary="Rankings that learn from a live event stream.",
        lifespan=lifespan,
        docs_url=None,  # install_edges serves it, without a foreign host
        redoc_url=None,
    )
    _add_probes(app, serving)
    _add_routes(app, serving)
    install_console(app, serving.hub, serving.letters)
    settings = serving.settings
    install_edges(
        app,
        serving.metrics.http,
        serving.registry,
        body_max_bytes=settings.serving_body_max_bytes,
        callers=Callers(serving.keys, settings.serving_host, settings.allow_insecure, settings.allowed_origins),
        limits=settings.http_limits,
        exposition=exposition,
    )
    # Last, and so around the others: a browser may read errors too.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=("x-request-id", "retry-after", "www-authenticate", DEGRADED.lower()),
        max_age=600,
    )
    return app


def _add_routes(app: FastAPI, serving: Serving) -> None:
    settings = serving.settings
    ranked = rankings(
        serving.recommender,
        serving.users,
        serving.contents,
        serving.watcher.name_of,
        settings.serving_top_contents_impressions,
    )
    scored = predictions(serving.watcher, settings.vector_size)
    app.router.routes += [*ranked.routes, *scored.routes]  # an included router matches each request twice
    app.include_router(embeddings(serving.texts, settings.serving_embedding_texts), prefix=PREFIX)
    app.include_router(model_routes(serving.models), prefix=PREFIX)
    app.include_router(training(serving.training), prefix=PREFIX)


def _add_probes(app: FastAPI, serving: Serving) -> None:
    @app.get("/", response_model=Message, tags=["service"])
    async def root() -> Response:
        """Say what this is (legacy)."""
        return answer({"message": "moard serving: POST /api/v1/rank; everything else is at /docs"})

    @app.get("/healthz", tags=["service"])
    async def healthz() -> Response:
        """Answer as long as the process runs."""
        return answer({"status": "ok"})

    @app.get("/readyz", tags=["service"], responses={503: {"description": "Not ready yet; names what is missing."}})
    async def readyz() -> Response:
        """Answer 200 once contents are resident, a snapshot was tried, and a first ranking has warmed up."""
        missing = serving.waiting_for()
        return answer({"ready": not missing, "waiting_for": missing}, 503 if missing else 200)
