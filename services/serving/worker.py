"""One of several workers: its place beside the others, as the supervisor tells it on the command line.

Nothing heavy is imported here: the supervisor reads this module too.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COMMAND: Final = "worker"
_READY: Final = b"ready"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker finds what it shares.

    ``listener`` is the descriptor of the socket that all workers accept from; ``lifeline`` that of a socket to the
    supervisor, which tells when either end is gone; ``folder`` holds a socket for each worker's metrics.
    ``patience_s`` is how long the worker may get ready before it takes requests all the same, None for ever.
    """

    slot: int
    listener: int
    lifeline: int
    folder: Path
    patience_s: float | None

    def arguments(self) -> list[str]:
        """Return the command line from which ``parse`` makes this place."""
        patience = "-" if self.patience_s is None else self.patience_s
        return [COMMAND, *map(str, (self.slot, self.listener, self.lifeline, self.folder, patience))]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "Place | None":
        """Return the place that a command line names, None when it names none."""
        if list(arguments[:1]) != [COMMAND]:
            return None
        slot, listener, lifeline, folder, patience = arguments[1:]
        patience_s = None if patience == "-" else float(patience)
        return cls(int(slot), int(listener), int(lifeline), Path(folder), patience_s)


class Admission:
    """Holds a worker back until it is ready, and ends it with its supervisor."""

    def __init__(self, place: Place, ready: asyncio.Event) -> None:
        self._place = place
        self._ready = ready
        self._decided = asyncio.Event()

    def give_up(self) -> None:
        """Wait no longer: the process is about to end."""
        self._decided.set()

    @contextlib.asynccontextmanager
    async def granted(self) -> AsyncIterator[None]:
        """Enter when this worker may take requests: it is ready, or its patience is over."""
        with socket.socket(fileno=self._place.lifeline) as lifeline:
            lifeline.setblocking(False)
            tasks = [asyncio.create_task(work) for work in (self._report(lifeline), self._follow(lifeline))]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._place.patience_s):
                    await self._decided.wait()
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self, lifeline: socket.socket) -> None:
        await self._ready.wait()
        await asyncio.get_running_loop().sock_sendall(lifeline, _READY)
        self._decided.set()

    async def _follow(self, lifeline: socket.socket) -> None:
        """Stop as on SIGTERM when the supervisor hangs up or is gone: nobody would end or replace this worker."""
        while await asyncio.get_running_loop().sock_recv(lifeline, 1):
            pass
        signal.raise_signal(signal.SIGTERM)
        self._decided.set()
