"""A TCP proxy whose network can be made to fail: black holes, resets, latency, and healing again."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeVar

from infra.ports import LOOPBACK, free_port

Mode = Literal["open", "black_hole", "refused"]
ResultT = TypeVar("ResultT")

_CHUNK: Final = 65_536
_LINGER_0: Final = struct.pack("ii", 1, 0)  # closing with this answers the peer with RST
_CALL_S: Final = 10.0


class Proxy:
    """Forwards connections on loopback to a server, and fails as a network does. Runs on a thread of its own.

    The port is chosen when the proxy is made, so that a server may advertise it before anything listens there.

    Parameters
    ----------
    port
        To listen on; 0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self._target = 0
        self._mode: Mode = "open"
        self._latency_s = 0.0
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def address(self) -> str:
        """Host and port that clients are told."""
        return f"{LOOPBACK}:{self.port}"

    def start(self, target_port: int) -> None:
        """Listen, and forward to this port of loopback."""
        self._target = target_port
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """Reset what is open and listen no more."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    @contextmanager
    def forwarding(self, target_port: int) -> Iterator["Proxy"]:
        """Forward within the block."""
        self.start(target_port)
        try:
            yield self
        finally:
            self.stop()

    def black_hole(self) -> None:
        """Deliver nothing in either direction; connections stay open and new ones are accepted, as by a full path.

        What was sent meanwhile arrives after ``heal``, as TCP would send it again.
        """
        self._call(self._set("black_hole"))

    def reset(self, refuse: bool = False) -> None:
        """Answer all open connections with RST; with ``refuse`` new ones too, until ``heal``."""
        self._call(self._reset("refused" if refuse else self._mode))

    def delay(self, seconds: float) -> None:
        """Deliver everything so much later, in order, in each direction."""
        self._latency_s = seconds

    def heal(self) -> None:
        """Forward as if nothing had been."""
        self._latency_s = 0.0
        self._call(self._set("open"))

    def _call(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def _close(self) -> None:
        assert self._server is not None, "start comes first"
        self._server.close()
        await self._reset("refused")

    async def _set(self, mode: Mode) -> None:
        self._mode = mode
        for pair in self._pairs:
            pair.flows(mode == "open")

    async def _reset(self, mode: Mode) -> None:
        self._mode = mode
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            await pair.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refused":
            _abort(writer)
            return
        try:
            there = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            _abort(writer)
            return
        pair = _Pair(self, (reader, writer), there)
        pair.flows(self._mode == "open")
        self._pairs.add(pair)
        await pair.run()
        self._pairs.discard(pair)

    @property
    def latency_s(self) -> float:
        """Of each direction."""
        return self._latency_s


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Pair:
    """One client's connection and ours to the server."""

    def __init__(self, proxy: Proxy, client: Stream, server: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._open = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def flows(self, flows: bool) -> None:
        if flows:
            self._open.set()
        else:
            self._open.clear()

    async def run(self) -> None:
        there = self._forward(self._client[0], self._server[1])
        back = self._forward(self._server[0], self._client[1])
        self._tasks = [asyncio.create_task(there), asyncio.create_task(back)]
        await asyncio.wait(self._tasks)

    async def reset(self) -> None:
        for _, writer in (self._client, self._server):
            _abort(writer)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read on while a delay is pending, so that latency costs no bandwidth; an end is delivered like data."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        delivering = asyncio.create_task(self._deliver(line, writer))
        try:
            chunk = b"."
            while chunk:
                try:
                    chunk = await reader.read(_CHUNK)
                except OSError:  # the peer was killed
                    chunk = b""
                await line.put((time.monotonic() + self._proxy.latency_s, chunk))
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, chunk = await line.get()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            await self._open.wait()
            if not chunk:
                writer.close()
                return
            try:
                writer.write(chunk)
                await writer.drain()
            except OSError:
                pass  # gone: the other direction ends as well, and what still comes is dropped


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    writer.transport.abort()
