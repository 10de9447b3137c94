"""One server of the local stack: started until healthy, stopped, killed, paused, on the same ports and data again."""

import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path

from infra.child import Child
from infra.ports import LOOPBACK, free_port, is_free
from infra.run_state import RunningServer, RunState
from libs.errors import RefusedStart

START_S = 60.0
"""Longest wait for health: a cold broker on a loaded machine was seen to take 12 s."""
STARTS = 3
"""A port may be taken between choosing and listening: then another is tried."""


class LocalServer(ABC):
    """A server process of ours. Its ports are chosen at the first start and survive restarts.

    Parameters
    ----------
    folder
        Its data. The log is ``logs/<name>.log`` beside it, so that one folder holds all logs of a stack.
    detached
        True lets the server outlive this process (``moard up``); otherwise a guard ends it, however this process ends.
    """

    name: str
    port_count = 1
    grace_s = 10.0

    def __init__(self, folder: Path, state: RunState, *, detached: bool = False) -> None:
        self.folder = folder
        self.ports: tuple[int, ...] = ()
        self._child = Child(self.name, folder.parent / "logs" / f"{self.name}.log", detached=detached)
        self._state = state
        self._detached = detached

    @abstractmethod
    def prepare(self) -> None:
        """Write configuration and data folders for the current ports; called before each start."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return what to run, after ``prepare``."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether clients can work with this very server, not with a stranger that took its port first."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it, as their settings want it."""

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._child.log

    @property
    def port(self) -> int:
        """The port clients use; raises ``RefusedStart`` before the first start."""
        if not self.ports:
            raise RefusedStart(f"{self.name} was not started")
        return self.ports[0]

    @property
    def pid(self) -> int:
        """The process id of the last start; raises ``RefusedStart`` before the first."""
        if self._child.identity is None:
            raise RefusedStart(f"{self.name} was not started")
        return self._child.identity.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._child.running

    def start(self) -> None:
        """Start the server unless it runs, and wait until it is healthy.

        The first start tries the ports of the stack's last run and takes others when they are in use; a later one
        comes back on the same ports, which clients know by then.

        Raises
        ------
        RefusedStart
            When it does not become healthy within 60 s, with the end of its log.
        """
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + START_S
        known = self.ports
        attempts = 1 if known else STARTS
        ports = known or self._last_ports()
        while problem := self._try(ports, deadline - time.monotonic()):
            attempts -= 1
            if not attempts or all(is_free(port) for port in ports):
                self.ports = known
                raise RefusedStart(problem)
            ports = self._free_ports()

    def stop(self) -> None:
        """Ask the server to stop, and kill it when it does not within its grace."""
        self._child.stop(self.grace_s)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self._child.kill()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its connections stay open and nothing answers."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._child.signal(signal.SIGCONT)

    def adopt(self, running: RunningServer) -> None:
        """Take over a server that an earlier run started and that still runs."""
        self._child.identity, self.ports = running.identity, running.ports

    def _try(self, ports: tuple[int, ...], deadline_s: float) -> str:
        """Return nothing when the server became healthy on these ports, else why not."""
        self.ports = ports
        self.prepare()
        self._child.start(self.command(), os.environ, self.folder)
        if self._child.identity is not None:
            self._state.record(self.name, RunningServer(self._child.identity, ports, self._detached))
        problem = self._child.wait_until(self.is_healthy, deadline_s)
        if problem:
            self._child.kill()
        return problem

    def _last_ports(self) -> tuple[int, ...]:
        last = self._state.last().get(self.name)
        return last.ports if last and all(is_free(port) for port in last.ports) else self._free_ports()

    def _free_ports(self) -> tuple[int, ...]:
        return tuple(free_port() for _ in range(self.port_count))


def answers(port: int, say: bytes, expect: bytes) -> bool:
    """Return whether the server at this port answers ``say`` with something that contains ``expect``."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(say)
            return expect in connection.recv(8192)
    except OSError:
        return False
