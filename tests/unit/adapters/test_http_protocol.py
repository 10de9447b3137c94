"""Connections as a hostile client holds them: on a real socket, because only there they can be held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import pytest
import uvicorn
from starlette.responses import StreamingResponse

from libs.adapters.http_protocol import HEAD_MAX_BYTES, GuardedProtocol, _Corked
from libs.adapters.http_settings import Limits
from tests.unit.adapters.edge import Edged

PATIENCE_S = 20.0


class Hasty(GuardedProtocol):
    deadline_s = 0.1


@asynccontextmanager
async def served(
    protocol: type[GuardedProtocol] = Hasty, limits: Limits | None = None
) -> AsyncIterator[tuple[Edged, int]]:
    edged = Edged(limits=limits, body_max_bytes=1_000)
    server = uvicorn.Server(uvicorn.Config(edged.app, port=0, http=protocol, ws="none", log_config=None))
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(PATIENCE_S):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    yield edged, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def send(port: int, *pieces: bytes, wait_for_close: bool = True) -> bytes:
    """Return what the server says before it hangs up, or its first piece."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(PATIENCE_S):
            return await (reader.read() if wait_for_close else reader.read(4_096))
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def stream_first(edged: Edged, path: str, content: AsyncIterator[bytes]) -> None:
    """Answer a path with a stream, before the stand's own route for everything."""
    edged.app.get(path)(lambda: StreamingResponse(content))
    edged.app.router.routes.insert(0, edged.app.router.routes.pop())


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"GET",),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"x-a: b\r\n"),
        (b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n", b"abc"),
        (b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n"),
    ],
)
async def test_a_request_that_does_not_end_is_hung_up_on(pieces: tuple[bytes, ...]) -> None:
    async with served() as (_, port):
        said = await send(port, *pieces)
    assert b"200 OK" not in said


async def test_a_trickle_of_headers_does_not_keep_the_connection() -> None:
    async with served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"x-a: b\r\n")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = await reader.read()
        except ConnectionResetError:
            said = b""
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
        writer.close()
    assert said == b""


async def test_nor_is_a_second_one_waited_for() -> None:
    async with served() as (edged, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        async with asyncio.timeout(PATIENCE_S):
            assert b"200 OK" in await reader.readuntil(b"}")
            writer.write(b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\n")
            assert b"HTTP" not in await reader.read()
        writer.close()
    assert edged.entered == 1


async def test_what_works_on_a_request_may_take_longer_than_its_arrival() -> None:
    edged_limits = Limits(concurrent_requests=5)
    async with served(limits=edged_limits) as (edged, port):

        @edged.app.get("/slow")
        async def slow() -> str:
            await asyncio.sleep(5 * Hasty.deadline_s)
            return "done"

        edged.app.router.routes.insert(0, edged.app.router.routes.pop())
        said = await send(port, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n", wait_for_close=False)
    assert b"200 OK" in said


async def test_connections_are_kept_between_requests() -> None:
    request = b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    async with served(GuardedProtocol) as (edged, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(request)
            async with asyncio.timeout(PATIENCE_S):
                said = await reader.readuntil(b"}")
            assert b"200 OK" in said
        writer.close()
        assert edged.entered == 3


class Recorded(GuardedProtocol):
    """Notes what is handed to the kernel."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        recorded = Mock(wraps=transport)
        super().connection_made(recorded)
        writes.append(recorded.write)


writes: list[Mock] = []


async def test_an_answer_is_one_write() -> None:
    writes.clear()
    async with served(Recorded) as (_, port):
        request = b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
        said = await send(port, request, wait_for_close=False)
    assert said.startswith(b"HTTP/1.1 200 OK")
    writes[0].assert_called_once_with(said)


async def test_what_was_written_to_a_client_that_has_left_is_dropped() -> None:
    transport = Mock(is_closing=Mock(return_value=False))
    corked = _Corked(transport, asyncio.get_running_loop())
    corked.write(b"a")
    await asyncio.sleep(0)
    corked.write(b"b")
    transport.is_closing.return_value = True
    await asyncio.sleep(0)
    transport.write.assert_called_once_with(b"a")


async def test_what_follows_in_another_turn_is_sent_by_then() -> None:
    told = asyncio.Event()

    async def halves() -> AsyncIterator[bytes]:
        yield b"first"
        await told.wait()
        yield b"second"

    async with served(GuardedProtocol) as (edged, port):
        stream_first(edged, "/halves", halves())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /halves HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"first")
            told.set()
            await reader.readuntil(b"second")
        writer.close()


async def test_whoever_writes_much_without_a_pause_is_held_back() -> None:
    yielded = 0

    async def plenty() -> AsyncIterator[bytes]:
        nonlocal yielded
        while yielded < 50_000:
            yielded += 1
            yield b"x" * 1_000

    async with served(GuardedProtocol) as (edged, port):
        stream_first(edged, "/plenty", plenty())
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /plenty HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            while not yielded:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        held = yielded
        writer.transport.abort()
    assert held < 50_000


async def test_a_head_that_never_ends_is_not_kept() -> None:
    async with served(GuardedProtocol) as (edged, port):
        said = await send(port, b"GET / HTTP/1.1\r\nx-a: ", *([b"x" * 16_384] * (HEAD_MAX_BYTES // 16_384 + 2)))
    assert said == b"reset" or b" 431 " in said
    assert edged.entered == 0


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /api/v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_client_error(head: bytes) -> None:
    async with served(Hasty) as (_, port):
        said = await send(port, head)
    assert said.startswith(b"HTTP/1.1 4")


async def test_a_client_that_takes_nothing_is_hung_up_on() -> None:
    class Untaken(GuardedProtocol):
        untaken_s = 0.2

    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0)  # a write to a lost connection does not wait: the loop would hear of nothing
        finally:
            ended.set()

    async with served(Untaken) as (edged, port):
        stream_first(edged, "/endless", endless())
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        writer.close()
