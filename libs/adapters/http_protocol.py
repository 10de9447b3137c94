"""Connections that may not wait for ever: what uvicorn leaves open, closed."""

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DEADLINE_S: Final = 30.0  # for a whole request to arrive; what works on it afterwards takes as long as it takes
HEAD_MAX_BYTES: Final = 64 * 1024  # above what is answered with 431, which needs a head that ends

_LONG_BYTES: Final = 16 * 1024
_MOST_PARTS: Final = 4

_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for requests to arrive, and a bound on heads that never end.

    uvicorn itself waits for as long as a client goes on sending a byte now and then, and keeps all of a head.
    A request that comes in one piece, as nearly all do, never sets a timer.
    """

    deadline_s: float = DEADLINE_S
    untaken_s: float = DEADLINE_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request, not for ever; nor for a client to take what is sent to it."""
        super().connection_made(transport)
        self.transport = _Corked(transport, self.loop)  # type: ignore[assignment]
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6) and _USER_TIMEOUT:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(1_000 * self.untaken_s))
        self._in_head = False
        self._arriving = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and see that what has begun also ends."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
        if not self._arriving:
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self._start()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = self._arriving = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Hand the request over; its body may still be on its way."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that all of it has arrived."""
        self._arriving = False
        super().on_message_complete()

    def _start(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.deadline_s, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


class _Corked:
    """A transport that sends what is written in one turn of the loop at once: an answer's head with its body.

    uvicorn writes them one after the other, and uvloop hands each to the kernel: two packets, and a reader woken twice.
    What is long is sent without waiting, so that a client that does not take it holds back the one who writes.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)
        if len(data) > _LONG_BYTES or len(self._parts) > _MOST_PARTS:
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._parts and not self._transport.is_closing():  # the client may have left since
            self._transport.write(b"".join(self._parts))
        self._parts.clear()
