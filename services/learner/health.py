"""``/metrics`` and ``/healthz``, answered by a thread: also while the event loop is busy."""

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from libs.errors import RefusedStart


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep probes out of the log."""


class HealthServer:
    """Listens as soon as it exists; ``close`` ends it.

    Raises
    ------
    RefusedStart
        The address cannot be listened on.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, healthy: Callable[[], bool]) -> None:
        metrics = make_wsgi_app(registry)

        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/metrics":
                return list(metrics(environ, start))
            known = environ["PATH_INFO"] in ("/healthz", "/readyz")
            well = known and healthy()
            status = "200 OK" if well else "503 Service Unavailable" if known else "404 Not Found"
            start(status, [("Content-Type", "application/json")])
            return [b'{"status": "ok"}' if well else b'{"status": "failing"}' if known else b"{}"]

        try:
            self._server = make_server(host, port, answer, server_class=_Server, handler_class=_Silent)
        except OSError as error:
            raise RefusedStart(f"MOARD_LEARNER_METRICS_PORT={port} cannot be used on {host}: {error}") from error
        self.port = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
