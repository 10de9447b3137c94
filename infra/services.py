"""moard's own services as processes, for the demo and for tests."""

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from infra.child import Child
from infra.ports import LOOPBACK, free_port
from infra.processes import ProcessIdentity
from infra.run_state import RunningServer

ServiceName = Literal["ingest", "learner", "serving"]
ROOT = Path(__file__).parents[1]
GRACE_S = 20.0
_PORT_VARIABLES: Mapping[str, str] = {
    "ingest": "MOARD_INGEST_PORT",
    "serving": "MOARD_SERVING_PORT",
    "learner": "MOARD_LEARNER_METRICS_PORT",
}
_READY: Mapping[str, str] = {"ingest": "/readyz", "serving": "/readyz", "learner": "/healthz"}


class ServiceDied(RuntimeError):
    """A service ended, or did not become ready; the message carries the end of its log."""


class ServiceProcess:
    """One service: started, waited for, stopped, killed, on the same port again.

    Parameters
    ----------
    folder
        Where it runs, and where its log goes unless ``logs`` is given.
    preferred_port
        Taken when the environment names no port and this one is free.
    detached
        True lets it outlive this process (``moard up``); otherwise it ends with it.
    """

    def __init__(
        self,
        name: ServiceName,
        environment: Mapping[str, str],
        folder: Path,
        *,
        python: str = sys.executable,
        logs: Path | None = None,
        preferred_port: int | None = None,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.port_variable = _PORT_VARIABLES[name]
        self.port = int(environment.get(self.port_variable, 0)) or free_port(preferred_port)
        self._child = Child(name, (logs or folder) / f"{name}.log", detached=detached)
        self._python = python
        # One numpy thread: with a busy second core two are two to three times slower (rl.md §8).
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
            self.port_variable: str(self.port),
        }
        self._folder = folder

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self._child.log

    @property
    def identity(self) -> ProcessIdentity:
        """The process of the last start; raises ``ServiceDied`` before the first."""
        if self._child.identity is None:
            raise ServiceDied(f"{self.name} was not started")
        return self._child.identity

    @property
    def pid(self) -> int:
        """The process id of the last start; raises ``ServiceDied`` before the first."""
        return self.identity.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self._child.running

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._child.exit_code()

    def log_tail(self) -> str:
        """Return where its log is and how it ends."""
        return self._child.log_tail()

    def start(self) -> None:
        """Start it unless it runs; ``wait_ready`` tells when it works."""
        if not self.running:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._child.start([self._python, "-m", f"services.{self.name}"], self._environment, self._folder)

    def adopt(self, running: RunningServer) -> None:
        """Take over a service that an earlier run started and that still runs."""
        self._child.identity, (self.port,) = running.identity, running.ports

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when it is ready; raises ``ServiceDied`` when it ended or the time is over."""
        if problem := self._child.wait_until(self._is_ready, timeout_s):
            raise ServiceDied(problem)

    def stop(self, grace_s: float = GRACE_S) -> int | None:
        """Send SIGTERM, wait, kill it when it must be; return the exit code."""
        self._child.stop(grace_s)
        return self.exit_code()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._child.kill()

    def pause(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nothing answers."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._child.signal(signal.SIGCONT)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{_READY[self.name]}", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
