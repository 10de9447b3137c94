"""What a stack has running, written down so that a later run finds what a killed one left behind."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.processes import ProcessIdentity, is_running
from libs.errors import RefusedStart


@dataclass(frozen=True, slots=True)
class RunningServer:
    """One started server: who it is, where it listens, and whether it was meant to outlive its starter."""

    identity: ProcessIdentity
    ports: tuple[int, ...]
    detached: bool = False


class RunState:
    """The file ``state.json`` of a stack's folder. Written atomically; one owner at a time (see ``owned``)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state.json"
        self._lock = folder / "lock"
        self._writing = threading.Lock()  # servers are started side by side

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder; the hold ends with the process at the latest, however it ends.

        Raises
        ------
        RefusedStart
            When another living process holds it.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RefusedStart(
                    f"{self._lock.parent} is in use by process {lock.read().strip() or '?'}: end that one first."
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
            lock.truncate(0)

    def running(self) -> dict[str, RunningServer]:
        """Return the servers written down that still run."""
        return {name: server for name, server in self.last().items() if is_running(server.identity)}

    def last(self) -> dict[str, RunningServer]:
        """Return the servers written down, running or not."""
        if not self._path.exists():
            return {}
        return {
            name: RunningServer(ProcessIdentity(**entry["identity"]), tuple(entry["ports"]), entry["detached"])
            for name, entry in json.loads(self._path.read_text()).items()
        }

    def record(self, name: str, server: RunningServer) -> None:
        """Write down that ``name`` was started."""
        with self._writing:
            entries = {key: asdict(value) for key, value in (self.last() | {name: server}).items()}
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(entries, indent=1))
            fresh.replace(self._path)
