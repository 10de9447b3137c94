"""One child process: leader of a group of its own, its output in a log file, never left behind by accident."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.guard import guard
from infra.processes import POLL_S, ProcessIdentity, end, identify, is_running, send, wait_gone

KILL_DEADLINE_S = 10.0
TAIL_LINES = 25


class Child:
    """A process that this one started, or took over from an earlier run.

    Parameters
    ----------
    name
        What to call it in messages.
    log
        File its output is appended to.
    detached
        Whether it outlives this process; otherwise a guard ends it, however this process ends.
    """

    def __init__(self, name: str, log: Path, *, detached: bool = False) -> None:
        self.name = name
        self.log = log
        self.identity: ProcessIdentity | None = None
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> None:
        """Start the command; whether it stays up is for ``wait_until`` to find out."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,  # Ctrl-C is for us: we stop our children in order
            )
        self.identity = identify(self._process.pid)
        if self.identity is not None and not self._detached:
            guard().watch(self.identity)

    @property
    def running(self) -> bool:
        """Whether the process exists, paused or not."""
        return self.identity is not None and is_running(self.identity)

    def wait_until(self, condition: Callable[[], bool], deadline_s: float) -> str:
        """Wait for the condition; return nothing once it holds, else what went wrong and the end of the log."""
        deadline = time.monotonic() + deadline_s
        while not condition():
            if not self.running:
                return f"{self.name} ended with exit code {self.exit_code()}. {self.log_tail()}"
            if time.monotonic() > deadline:
                return f"{self.name} was not ready after {deadline_s:.0f} s. {self.log_tail()}"
            time.sleep(POLL_S)
        return ""

    def stop(self, grace_s: float) -> bool:
        """Ask it to end and kill it when it has not after ``grace_s``; True when it went by itself."""
        went = self.identity is None or end(self.identity, grace_s)
        self.exit_code()
        return went

    def kill(self) -> None:
        """End it and its group at once, as a crash would."""
        self.signal(signal.SIGKILL)
        if self.identity is not None:
            wait_gone(self.identity, KILL_DEADLINE_S)
        self.exit_code()

    def signal(self, number: int) -> None:
        """Send a signal to it and its group; nothing happens when it is gone."""
        if self.identity is not None:
            send(self.identity, number)

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs or when another process started it."""
        if self._process is None or self.running:
            return None
        return self._process.wait()

    def log_tail(self) -> str:
        """Return where its log is and how it ends."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if self.log.exists() else []
        return "\n  | ".join([f"The end of {self.log}:", *lines])
