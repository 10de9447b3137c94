"""One server of the local stack: started until healthy, stopped, killed, paused, on the same port and data again."""

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from infra.guard import guard
from infra.ports import LOOPBACK, free_port
from infra.processes import ProcessIdentity, end, identify, is_running, send, wait_gone
from infra.run_state import RunningServer, RunState
from libs.errors import RefusedStart

START_S = 60.0
"""Longest wait for health: a cold broker on a loaded machine was seen to take 12 s."""
STARTS = 3
"""A port may be taken between choosing and listening: then another is tried."""
LOG_TAIL = 2_000


class LocalServer(ABC):
    """A server process of ours. Its data and log lie in ``folder``; its ports survive a restart.

    Parameters
    ----------
    detached
        True lets the server outlive this process (``moard up``); otherwise a guard ends it, however this process ends.
    """

    name: str
    port_count = 1
    grace_s = 10.0

    def __init__(self, folder: Path, state: RunState, *, detached: bool = False) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self._state = state
        self._detached = detached
        self._identity: ProcessIdentity | None = None
        previous = state.last().get(self.name)
        self.ports: tuple[int, ...] = previous.ports if previous else ()

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return what to run, after ``prepare``."""

    @abstractmethod
    def prepare(self) -> None:
        """Write configuration and data folders; called before each start."""

    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether clients can work with it now."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients reach it, as their settings want it."""

    def environment(self) -> Mapping[str, str]:
        """Return environment variables for the process."""
        return os.environ

    @property
    def port(self) -> int:
        """The port clients use."""
        return self.ports[0]

    @property
    def pid(self) -> int:
        """The process id; raises when it was never started."""
        if self._identity is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._identity.pid

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._identity is not None and is_running(self._identity)

    def start(self) -> None:
        """Start the server and wait until it is healthy.

        Raises
        ------
        RefusedStart
            When it does not become healthy, with the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(STARTS):
            if not self.ports or attempt:
                self.ports = tuple(free_port() for _ in range(self.port_count))
            self.prepare()
            self._spawn()
            if self._wait_healthy():
                return
            self.kill()
        raise RefusedStart(f"{self.name} did not become healthy. The end of {self.log}:\n{self._log_tail()}")

    def stop(self) -> None:
        """Ask the server to stop, and kill it when it does not within its grace."""
        if self._identity is not None:
            end(self._identity, self.grace_s)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._identity is not None:
            send(self._identity, signal.SIGKILL)
            wait_gone(self._identity, self.grace_s)

    def pause(self) -> None:
        """Stop the process where it stands."""
        if self._identity is not None:
            send(self._identity, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._identity is not None:
            send(self._identity, signal.SIGCONT)

    def adopt(self, running: RunningServer) -> None:
        """Take over a server that an earlier run started and that still runs."""
        self._identity, self.ports = running.identity, running.ports

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment()),
                cwd=self.folder,
                start_new_session=True,
            )
        self._identity = identify(process.pid)
        if self._identity is None:
            return
        self._state.record(self.name, RunningServer(self._identity, self.ports))
        if not self._detached:
            guard().watch(self._identity)

    def _wait_healthy(self) -> bool:
        deadline = time.monotonic() + START_S
        while self.running and time.monotonic() < deadline:
            if self.is_healthy():
                return True
            time.sleep(0.05)
        return False

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else "(no log)"


def answers(port: int, say: bytes, expect: bytes) -> bool:
    """Return whether the server at this port answers ``say`` with something that contains ``expect``."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(say)
            return expect in connection.recv(1024)
    except OSError:
        return False
