"""A small application behind the edges, and a client of it."""

from typing import Any

import httpx
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry

from libs.adapters.access import KEY, Callers
from libs.adapters.http import install_edges
from libs.adapters.http_settings import Limits
from libs.adapters.metrics import HttpMetrics


class Edged:
    """Echoes who called and what was sent; ``entered`` counts the requests that came through."""

    def __init__(self, callers: Callers | None = None, limits: Limits | None = None, body_max_bytes: int = 100) -> None:
        self.registry = CollectorRegistry()
        self.entered = 0
        self.broken = False
        self.app = FastAPI(title="<edged>", docs_url=None, redoc_url=None)
        install_edges(
            self.app,
            HttpMetrics(self.registry),
            self.registry,
            body_max_bytes=body_max_bytes,
            callers=callers,
            limits=limits,
        )

        @self.app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
        async def echo(path: str, request: Request) -> dict[str, Any]:
            self.entered += 1
            if self.broken:
                raise RuntimeError("broken")
            key = request.scope.get(KEY)
            body = await request.body()
            return {"path": path, "bytes": len(body), "key": key and key.id, "scopes": key and sorted(key.scopes)}

    def client(self, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)

    def refused(self, reason: str) -> float:
        return self.registry.get_sample_value("moard_http_refused_total", {"reason": reason}) or 0.0
