"""Running an HTTP application until SIGTERM, or until something behind it fails."""

import asyncio
import signal
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from libs.adapters.http_protocol import GuardedProtocol
from libs.errors import RefusedStart

STOPPED = 0
CRASHED = 1

Crashed = Callable[[BaseException], None]
"""Called by a background task that failed: the process must not go on as if nothing had happened."""


def serve_until_stopped(make_app: Callable[[Crashed], FastAPI], host: str, port: int, drain_s: int) -> int:
    """Serve; return the exit status: 0 after SIGTERM, 1 when a background task failed.

    Raises
    ------
    RefusedStart
        The failure of a background task that was one.
    """
    loop_factory = uvicorn.Config("", loop="uvloop", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve(make_app, host, port, drain_s))


async def _serve(make_app: Callable[[Crashed], FastAPI], host: str, port: int, drain_s: int) -> int:
    failures: list[BaseException] = []

    def crashed(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    server = uvicorn.Server(
        uvicorn.Config(
            make_app(crashed),
            host=host,
            port=port,
            http=GuardedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody could write an address of their choice there
            timeout_graceful_shutdown=drain_s,
        )
    )
    # uvicorn drains on a signal, then raises it again for whoever handled it before: nobody, so that we can return.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    await server.serve()
    for error in failures:
        if isinstance(error, RefusedStart):
            raise error
    return CRASHED if failures else STOPPED
