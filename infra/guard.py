"""A small process that outlives its parent just long enough to end what the parent started.

Signal handlers do not run in a process that is killed with SIGKILL, so somebody else must notice. The guard reads
``pid birth`` lines from a pipe that only the parent writes to; the pipe closes however the parent ends.
"""

import atexit
import signal
import subprocess
import sys
from functools import cache

from infra.processes import ProcessIdentity, end

GRACE_S = 5.0


class ProcessGuard:
    """The parent's side. Closing it, or dying, ends everything that was watched and still runs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the terminal's group, and the guard has to survive it
            env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
            text=True,
        )

    def watch(self, identity: ProcessIdentity) -> None:
        """End this process when the parent is gone."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(f"{identity.pid} {identity.birth}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End what still runs, and the guard."""
        self._process.communicate()


@cache
def guard() -> ProcessGuard:
    """Return this process's guard, started at first use."""
    started = ProcessGuard()
    atexit.register(started.close)
    return started


def main() -> None:
    """Read identities until the parent is gone, then end them, the last started first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched: list[ProcessIdentity] = []
    for line in sys.stdin:
        pid, _, birth = line.strip().partition(" ")
        watched.append(ProcessIdentity(int(pid), birth))
    for identity in reversed(watched):
        end(identity, GRACE_S)


if __name__ == "__main__":
    main()
