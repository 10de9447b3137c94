"""The proxy that makes networks fail, against a plain echo server."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from infra.ports import LOOPBACK
from tests.faults.proxy import Proxy

BLINK_S = 0.15


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets."""
    listener = socket.create_server((LOOPBACK, 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while octets := connection.recv(4096):
                    connection.sendall(octets)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    running = Proxy()
    running.start(echo)
    yield running
    running.stop()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=10)


def say(connection: socket.socket, octets: bytes) -> bytes:
    connection.sendall(octets)
    return connection.recv(100)


def test_it_forwards_and_passes_an_end_on(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert say(connection, b"hello") == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""


def test_a_black_hole_delivers_nothing_until_it_heals(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert say(connection, b"one") == b"one"
        proxy.black_hole()
        connection.settimeout(BLINK_S)
        with pytest.raises(TimeoutError):
            say(connection, b"two")
        with connect(proxy) as another:  # accepted, and silent
            another.settimeout(BLINK_S)
            with pytest.raises(TimeoutError):
                say(another, b"three")
        connection.settimeout(10)
        proxy.heal()
        assert connection.recv(100) == b"two"


def test_a_reset_breaks_connections_and_lets_new_ones_through(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert say(connection, b"one") == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with connect(proxy) as connection:
        assert say(connection, b"two") == b"two"


def test_refusing_lasts_until_it_heals(proxy: Proxy) -> None:
    proxy.reset(refuse=True)
    with contextlib.suppress(ConnectionResetError), connect(proxy) as connection:  # or it was accepted and ends at once
        assert connection.recv(100) == b""
    proxy.heal()
    with connect(proxy) as connection:
        assert say(connection, b"two") == b"two"


def test_latency_delays_and_keeps_order(proxy: Proxy) -> None:
    proxy.delay(BLINK_S)
    with connect(proxy) as connection:
        began = time.monotonic()
        connection.sendall(b"a")
        connection.sendall(b"b")
        received = b""
        while len(received) < 2:
            received += connection.recv(100)
        assert received == b"ab"
        assert time.monotonic() - began >= 2 * BLINK_S  # a lower bound: the machine may be slower, never faster
