"""moard's own services as processes, for the demo and for tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from infra.guard import guard
from infra.ports import LOOPBACK, free_port
from infra.processes import ProcessIdentity, end, identify, is_running, send, wait_gone

ServiceName = Literal["ingest", "learner", "serving"]
ROOT = Path(__file__).parents[1]
LOG_TAIL = 3_000
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
        self.log = folder / f"{name}.log"
        self.port = int(environment.get(_PORT_VARIABLES[name], 0)) or free_port()
        self._python = python
        # One numpy thread: with a busy second core two are two to three times slower (rl.md §8).
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
            _PORT_VARIABLES[name]: str(self.port),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._identity: ProcessIdentity | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id; raises when it was never started."""
        if self._identity is None:
            raise ServiceDied(f"{self.name} was not started")
        return self._identity.pid

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._identity is not None and is_running(self._identity)

    def start(self) -> None:
        """Start it; ``wait_ready`` tells when it works."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [self._python, "-m", f"services.{self.name}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        self._identity = identify(self._process.pid)
        if self._identity is not None:
            guard().watch(self._identity)

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when it is ready; raises ``ServiceDied`` when it ended or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if not self.running:
                raise ServiceDied(f"{self.name} ended with {self.exit_code()}. {self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceDied(f"{self.name} was not ready after {timeout_s:.0f} s. {self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> int | None:
        """Send SIGTERM, wait, kill when it must be; return the exit code."""
        if self._identity is not None:
            end(self._identity, GRACE_S)
        return self.exit_code()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        if self._identity is not None:
            wait_gone(self._identity, GRACE_S)

    def pause(self) -> None:
        """Stop it where it stands."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll() if self._process else None

    def log_tail(self) -> str:
        """Return the end of its log."""
        text = self.log.read_text(errors="replace")[-LOG_TAIL:] if self.log.exists() else "(no log)"
        return f"The end of {self.log}:\n{text}"

    def _signal(self, number: int) -> None:
        if self._identity is not None:
            send(self._identity, number)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{_READY[self.name]}", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


ServiceFactory = Callable[..., ServiceProcess]
