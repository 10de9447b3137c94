"""Statuses for everybody who looks at the console: read once a second, made into one message, sent to all."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libs.adapters.status import Posted, StatusBoard
from libs.errors import StoreUnavailable
from services.serving.console.overview import Overview, said_by
from services.serving.console.recent import History

log = structlog.get_logger(__name__)

VIEWERS: Final = 32
"""Streams of one worker at once; each costs a connection, and little else."""

_EVERY_S: Final = 1.0
_UNSEEN_S: Final = 5.0  # between two looks while nobody watches: the charts' history goes on
_CHANGE_S: Final = 0.2  # a pin is seen within this
_PATIENCE_S: Final = 15.0  # a client that takes nothing for so long is let go
_LIFE_S: Final = 600.0  # then the page comes again: with its key checked anew, perhaps to another worker


class Hub:
    """Looks at the board each second and tells all viewers the same.

    Parameters
    ----------
    own
        The instance that this process is, and what it says now: its own news need no way through the board.
    changed
        Something that differs when viewers should be told at once.
    """

    def __init__(
        self,
        board: StatusBoard,
        instance: str,
        own: Callable[[], Awaitable[dict[str, Any]]],
        changed: Callable[[], object],
        every_s: float = _EVERY_S,
    ) -> None:
        self.overview = Overview()
        self.leaving = asyncio.Event()
        self._board = board
        self._instance = instance
        self._own = own
        self._changed = changed
        self._every_s = every_s
        self._history = History()
        self._posted: list[Posted] = []
        self._read_s = time.monotonic()
        self._latest = b""
        self._told = asyncio.Event()
        self._woken = asyncio.Event()
        self._viewers = 0
        self._failing = False

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._viewers

    async def run(self) -> None:
        """Look until cancelled. What cannot be understood is logged, and looked at again."""
        while True:
            try:
                await self.look()
                self._failing = False
            except Exception as error:  # a view never ends the service that it shows
                if not self._failing:
                    log.warning("console.cannot_look", exc_info=error)
                self._failing = True
            await self._pause()

    async def look(self) -> None:
        """Look once and tell everybody."""
        away = await self._read()
        parts = said_by(self._posted, time.monotonic() - self._read_s)
        for part in parts:
            if part["service"] == "serving" and part["instance"] == self._instance:
                part |= {**await self._own(), "age_s": 0.0}
        now_ms = time.time_ns() // 1_000_000
        message = self.overview.look(parts, away, now_ms) | {"seen_by": self._instance}
        self._history.add(now_ms, message["point"])
        self._latest = _event("look", message)
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Yield the history, then every message from the latest on: a slow viewer misses some and is sent no old ones.

        Ends when the process does, and after ten minutes.
        """
        ends_s = time.monotonic() + _LIFE_S
        self._viewers += 1
        self._woken.set()
        try:
            yield _event("history", self._history.columns())
            told = self._told
            yield self._latest
            while not self.leaving.is_set() and time.monotonic() < ends_s:
                await _first(told, self.leaving)
                told = self._told
                yield self._latest
        finally:
            self._viewers -= 1

    async def _read(self) -> str | None:
        """Read the board; return why it could not be read."""
        try:
            self._posted = await self._board.all()
        except StoreUnavailable as error:
            return str(error)
        self._read_s = time.monotonic()
        return None

    async def _pause(self) -> None:
        seen, until_s = self._changed(), time.monotonic() + (self._every_s if self._viewers else _UNSEEN_S)
        while (left_s := until_s - time.monotonic()) > 0 and seen == self._changed():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _CHANGE_S) if self._viewers else left_s):
                    await self._woken.wait()
            if self._woken.is_set():
                self._woken.clear()
                return


class EventStream(Response):
    """Server-sent events for one viewer, until it leaves, takes nothing any more, or is asked to come again."""

    def __init__(self, hub: Hub) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(None, 200, headers, "text/event-stream")
        del self.headers["content-length"]
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send until it ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        if not sending.cancelled() and isinstance(sending.exception(), TimeoutError):
            log.info("console.viewer_dropped", patience_s=_PATIENCE_S)
            raise ClientDisconnect

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._hub.follow()) as messages:
            async for message in messages:
                async with asyncio.timeout(_PATIENCE_S):
                    await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _event(name: str, content: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"
