"""Has a process of its own work on training tasks: streaming tables must not hold up rankings (ADR 0019)."""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from libs.adapters.training_ports import Cursor, TaskStore, TrainingTask
from services.serving.training_worker import claim_oldest, lease_ms, now_ms

log = structlog.get_logger(__name__)

_COMMAND: Final = (sys.executable, "-m", "services.serving.training")
_GRACE_S: Final = 2.0  # after the hint to stop; the lease that a killed process leaves behind expires by itself
_NOT_STARTED: Final = 127  # as a shell says it
_AGAIN_S: Final = 5.0  # until a process that died has a successor


class TrainingProcess:
    """Starts the process when there is a task that nobody works on; it ends when none is left.

    Parameters
    ----------
    patience_s
        A task whose process dies again and again for so long, and moves nothing, has failed.

    Notes
    -----
    The lease is taken here and handed over by the name of its owner: over all serving processes one is started. Its
    standard input is the line to this process: when that closes, also because this process was killed, it stops.
    """

    def __init__(self, tasks: TaskStore, patience_s: float, command: Sequence[str] = _COMMAND) -> None:
        self._tasks = tasks
        self._patience_s = patience_s
        self._command = command
        self._owner = uuid.uuid4().hex
        self._stuck: tuple[str, int, Cursor] | None = None
        self._stuck_since_s = 0.0

    async def turn(self) -> bool:
        """Have the tasks that there are worked on; False when there is none, or another process is at them."""
        claimed = await claim_oldest(self._tasks, self._owner)
        if claimed is None:
            return False
        began_s = time.monotonic()
        if status := await self._run():
            await self._died(status, *claimed, began_s)
        return True

    async def _died(self, status: int, task: TrainingTask, cursor: Cursor, began_s: float) -> None:
        log.error("training.process_died", task_id=task.task_id, status=status, again_in_s=_AGAIN_S)
        stuck = (task.task_id, task.processed, cursor)
        if stuck != self._stuck:
            self._stuck, self._stuck_since_s = stuck, began_s
        if time.monotonic() - self._stuck_since_s > self._patience_s:
            error = f"the process that works on it ends again and again (status {status}): serving's log says more"
            failed = replace(task, status="failed", ended_ms=now_ms(), message="failed", error=error, state="")
            await self._tasks.save(self._owner, lease_ms(), failed, cursor)
        await asyncio.sleep(_AGAIN_S)

    async def _run(self) -> int:
        try:
            # Not asyncio's: uvloop forks, which copies the page tables of a catalogue while rankings wait (ADR 0019).
            process = subprocess.Popen([*self._command, self._owner], stdin=subprocess.PIPE)  # noqa: ASYNC220, S603
        except OSError as error:  # no memory or process to be had: rankings go on, and so will this
            log.error("training.process_not_started", error=str(error))
            return _NOT_STARTED
        log.info("training.process_started", pid=process.pid)
        ended = asyncio.create_task(asyncio.to_thread(process.wait))
        try:
            return await asyncio.shield(ended)
        finally:
            await _end(process, ended)


async def _end(process: subprocess.Popen[bytes], ended: asyncio.Task[int]) -> None:
    """Let go of the line, and see to it that the process ends."""
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.wait({ended}, timeout=_GRACE_S)
    if not ended.done():
        log.warning("training.process_killed", pid=process.pid, grace_s=_GRACE_S)
        process.kill()
    await ended
