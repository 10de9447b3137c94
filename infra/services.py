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
    """One service: started, waited for, stopped, killed, on the same port again. Ends with its parent."""

    def __init__(
        self, name: ServiceName, environment: Mapping[str, str], folder: Path, *, python: str = sys.executable
    ) -> None:
        self.name = name
        self.port = int(environment.get(_PORT_VARIABLES[name], 0)) or free_port()
        self._child = Child(name, folder / f"{name}.log")
        self._python = python
        # One numpy thread: with a busy second core two are two to three times slower (rl.md §8).
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
            _PORT_VARIABLES[name]: str(self.port),
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
    def pid(self) -> int:
        """The process id of the last start; raises ``ServiceDied`` before the first."""
        if self._child.identity is None:
            raise ServiceDied(f"{self.name} was not started")
        return self._child.identity.pid

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

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when it is ready; raises ``ServiceDied`` when it ended or the time is over."""
        if problem := self._child.wait_until(self._is_ready, timeout_s):
            raise ServiceDied(problem)

    def stop(self) -> int | None:
        """Send SIGTERM, wait, kill when it must be; return the exit code."""
        self._child.stop(GRACE_S)
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
