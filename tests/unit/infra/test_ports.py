"""Ports for servers that clients may hammer while they are down."""

import socket
from pathlib import Path

import pytest

from infra.ports import LOOPBACK, free_port, is_free

RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)


def test_a_preferred_port_is_taken_only_when_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with socket.create_server((LOOPBACK, port)):
        assert free_port(port) != port


@pytest.mark.skipif(not RANGE_FILE.exists(), reason="the range of source ports is read from Linux's /proc")
def test_ports_lie_where_the_kernel_takes_no_source_ports() -> None:
    first_source_port = int(RANGE_FILE.read_text().split()[0])
    assert all(free_port() < first_source_port for _ in range(50))
