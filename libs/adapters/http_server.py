"""Running an HTTP application until SIGTERM, or until something behind it fails."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

import uvicorn
from fastapi import FastAPI

from libs.adapters.http_protocol import GuardedProtocol
from libs.errors import RefusedStart

STOPPED = 0
CRASHED = 1

LEAVING: Final = "leaving"
"""Name in an application's state of an ``asyncio.Event``, set when the server stops: answers without end, end."""

Crashed = Callable[[BaseException], None]
"""Called by a background task that failed: the process must not go on as if nothing had happened."""

# Of the drain time. A client that reuses a connection sends its next request within it and is told to open another.
_FAREWELL_SHARE: Final = 0.4
_LOOK_EVERY_S: Final = 0.02


def serve_until_stopped(
    make_app: Callable[[Crashed], FastAPI], host: str, port: int, drain_s: float, listener: socket.socket | None = None
) -> int:
    """Serve; return the exit status: 0 after SIGTERM, 1 when a background task failed.

    Parameters
    ----------
    drain_s
        Seconds after SIGTERM for running requests and open connections.
    listener
        Listens already, perhaps in several processes; without it, ``host`` and ``port`` are bound.

    Raises
    ------
    RefusedStart
        The failure of a background task that was one.
    """
    loop_factory = uvicorn.Config("", loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve(make_app, host, port, drain_s, listener))


async def _serve(
    make_app: Callable[[Crashed], FastAPI], host: str, port: int, drain_s: float, listener: socket.socket | None
) -> int:
    failures: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        make_app(crashed),
        host=host,
        port=port,
        http=GuardedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could write an address of their choice there
    )
    server = _Server(config, drain_s)
    # uvicorn drains on a signal, then raises it again for whoever handled it before: nobody, so that we can return.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    await server.serve(None if listener is None else [listener])
    for error in failures:
        if isinstance(error, RefusedStart):
            raise error
    return CRASHED if failures else STOPPED


class _Server(uvicorn.Server):
    """Says goodbye before it hangs up.

    A client may be sending its next request on an open connection at the very moment the server closes it, and cannot
    know whether the request was heard. So connections stay open for a while after the last new one was taken; what
    comes in on them is answered with ``Connection: close``.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, wait until clients have left, and end what is still there."""
        ends = time.monotonic() + self._drain_s
        if (leaving := getattr(self.config.app.state, LEAVING, None)) is not None:  # type: ignore[union-attr]
            leaving.set()
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        patience = time.monotonic() + self._drain_s * _FAREWELL_SHARE
        while self.server_state.connections and time.monotonic() < patience:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(_LOOK_EVERY_S)
        # uvicorn annotates whole seconds and hands them to asyncio, which takes any.
        self.config.timeout_graceful_shutdown = max(0.0, ends - time.monotonic())  # type: ignore[assignment]
        await super().shutdown(sockets)
