"""Ports on loopback that nobody uses."""

import random
import socket

LOOPBACK = "127.0.0.1"
FIRST, LAST = 12_000, 32_000
"""Below the range from which the kernel takes source ports (32768 up on Linux, 49152 up elsewhere). A client that keeps
retrying a server that is down may otherwise be given the server's own port as its source, connect to itself, and hold
the port so that the server cannot come back."""


def is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port(preferred: int | None = None) -> int:
    """Return ``preferred`` when it is free, else a random free port.

    Another process may take it before the caller does: starting a server on it can still fail, and is retried.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    return next(port for port in random.sample(range(FIRST, LAST), LAST - FIRST) if is_free(port))
