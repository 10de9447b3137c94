"""The worker of training tasks: streams what a task asks for, and follows it until the learner has learned it.

A lease in SQL lets one task run at a time over all processes. Everything a task needs to go on is written with the
cursor, in one transaction, after the broker's acknowledgement: whoever takes over from a process that died goes on
from there.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from libs.adapters.ports import Producer, SnapshotStore
from libs.adapters.training_ports import Cursor, LegacyLog, Status, TaskStore, TrainingTask
from libs.errors import MoardError, SnapshotRejected, StoreUnavailable
from services.serving.backfill import Backfill
from services.serving.settings import Settings
from services.serving.training_progress import Progress

log = structlog.get_logger(__name__)

LEASE_MS: Final = 10_000  # after a crash the task goes on this much later
_LOOK_S: Final = 1.0  # between two looks at the snapshot pointer
_RENEW_S: Final = 3.0
_RETRY_S: Final = 1.0
_SETTLE_S: Final = 1.0  # an insertion of the backend's that is under way ends within this
_ACTOR: Final = "training"


class Keeper(Protocol):
    """Keeps snapshots under names."""

    async def keep(self, name: str, actor: str, request_id: str) -> int:
        """Keep the current snapshot under a name and return its version."""


@dataclass(frozen=True, slots=True)
class TrainingPorts:
    """What a worker reads and writes."""

    tasks: TaskStore
    legacy: LegacyLog
    producer: Producer
    snapshots: SnapshotStore
    keeper: Keeper

    async def close(self) -> None:
        """Let go of the stores and the broker; the keeper is somebody else's."""
        await self.producer.stop()
        for port in (self.tasks, self.legacy, self.snapshots):
            await port.close()


class TrainingWorker:
    """Works on the oldest task, one at a time over all workers. ``owner`` names it in the lease."""

    def __init__(self, ports: TrainingPorts, settings: Settings, owner: str) -> None:
        self._ports = ports
        self._tasks = ports.tasks
        self._backfill = Backfill(ports.legacy, ports.producer, settle_s=_SETTLE_S)
        self._patience_s = settings.serving_training_patience_ms / 1_000
        self._pace = settings.serving_training_pace
        self._a_second = max(1, int(self._pace))  # a task that was removed is not worked on for longer
        self._owner = owner
        self._patient_since: tuple[str, int] = ("", 0)

    async def turn(self) -> bool:
        """Work on the oldest task until it ends; False when there is none, or another worker is at it."""
        claimed = await claim_oldest(self._tasks, self._owner)
        if claimed is None:
            return False
        task, cursor = claimed
        renewing = asyncio.create_task(self._renew())
        try:
            newest = await self._tasks.get(task.task_id)  # as whoever held the lease before left it
            if newest is not None and newest.status == "processing":
                await self._work(newest, cursor)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self.release()
        return True

    async def release(self) -> None:
        """Give the lease back, if it is held: nobody has to wait for it to expire."""
        try:
            await self._tasks.release(self._owner)
        except StoreUnavailable as error:
            log.warning("training.lease_left_to_expire", error=str(error))

    async def _work(self, task: TrainingTask, cursor: Cursor) -> None:
        run = _Run(task, cursor, Progress.load(task.state))
        if self._patient_since[0] != task.task_id:
            self._patient_since = (task.task_id, now_ms())
        try:
            if await self._stream(run) and await self._follow(run):
                await self._complete(run)
        except StoreUnavailable as error:
            if not self._out_of_patience():
                raise
            await self._fail(run, f"no progress for {self._patience_s:.0f} s: {error}")
        except Exception as error:  # logged in full: rankings need not end for it, and no task may go on for ever
            log.exception("training.failed", task_id=task.task_id)
            await self._fail(run, f"a fault in moard ({type(error).__name__}): its log has task {task.task_id}")

    async def _stream(self, run: "_Run") -> bool:
        """Append everything the task is about; False when it is nobody's any more."""
        if run.progress.until is None:
            until = await self._backfill.bound(run.cursor, run.task.recommendations)
            total = await self._backfill.count(run.cursor, until)
            run.progress.until = until
            run.task = replace(run.task, total=total, message=f"streaming {total} interactions")
            if not await self._save(run):
                return False
        while run.lacks(run.progress.until):
            began = time.monotonic()
            page = await self._backfill.page(run.cursor, run.progress.until, min(run.task.batch_size, self._a_second))
            run.cursor = page.cursor
            run.progress.append(page.marks)
            await self._look(run)
            if not await self._save(run):
                return False
            self._made_progress(run)
            await asyncio.sleep(max(0.0, page.rows / self._pace - (time.monotonic() - began)))
        return True

    async def _follow(self, run: "_Run") -> bool:
        """Return True once a snapshot contains everything; False when the task ended otherwise."""
        saved = time.monotonic()
        while not run.progress.learned:
            if self._out_of_patience():
                await self._fail(
                    run,
                    f"no snapshot with more of these events for {self._patience_s:.0f} s: is the learner "
                    "running? The events are in the log and will be learned when it is",
                )
                return False
            before = run.task
            await self._wait(run)
            if run.task.processed > before.processed:
                self._made_progress(run)
            if run.task != before or time.monotonic() - saved > _RENEW_S:  # the task may have been removed
                saved = time.monotonic()
                if not await self._save(run):
                    return False
        return True

    async def _complete(self, run: "_Run") -> None:
        # What was deleted between counting and streaming, the backend took away; what came twice, a crash repeated.
        run.task = replace(run.task, total=run.progress.streamed, processed=run.progress.streamed)
        message, error = f"{run.task.processed} interactions learned", None
        if run.task.save_model:
            name, error = await self._keep(run.task)
            run.task = replace(run.task, save_path=None if name is None else f"models/{name}")
        await self._end(run, "completed", message, error)

    async def _keep(self, task: TrainingTask) -> tuple[str | None, str | None]:
        """Keep the current snapshot; return its name, or why there is none."""
        name = f"legacy-train-{datetime.fromtimestamp(task.created_ms / 1_000, UTC):%Y%m%d}-{task.task_id[:8]}"
        try:
            await self._ports.keeper.keep(name, _ACTOR, task.task_id)
        except StoreUnavailable:
            raise
        except MoardError as error:
            return None, f"the model was not saved: {error}"
        return name, None

    async def _fail(self, run: "_Run", error: str) -> None:
        await self._end(run, "failed", "failed", error)

    async def _end(self, run: "_Run", status: Status, message: str, error: str | None) -> None:
        run.task = replace(run.task, status=status, ended_ms=now_ms(), message=message, error=error)
        await self._save(run)
        self._patient_since = ("", 0)
        log.info("training.ended", task_id=run.task.task_id, status=status, interactions=run.task.processed)

    async def _look(self, run: "_Run") -> None:
        """Take note of the current snapshot, at most once a second; a store that is away is looked at later."""
        if time.monotonic() - run.looked_s < _LOOK_S:
            return
        run.looked_s = time.monotonic()
        try:
            meta = await self._ports.snapshots.current()
        except (StoreUnavailable, SnapshotRejected):
            return
        if meta is not None:
            run.task = run.progress.observe(run.task, meta)

    async def _wait(self, run: "_Run") -> None:
        try:
            meta = await self._ports.snapshots.wait(run.progress.version, _LOOK_S)
        except (StoreUnavailable, SnapshotRejected):
            meta = None
            await asyncio.sleep(_RETRY_S)
        if meta is not None:
            run.task = run.progress.observe(run.task, meta)

    async def _save(self, run: "_Run") -> bool:
        run.task = replace(run.task, state=run.progress.dump() if run.task.status == "processing" else "")
        return await self._tasks.save(self._owner, lease_ms(), run.task, run.cursor)

    async def _renew(self) -> None:
        """Keep the lease while a step takes long. Who loses it all the same is told by ``save``."""
        while True:
            await asyncio.sleep(_RENEW_S)
            with contextlib.suppress(StoreUnavailable):
                await self._tasks.renew(self._owner, lease_ms())

    def _made_progress(self, run: "_Run") -> None:
        self._patient_since = (run.task.task_id, now_ms())

    def _out_of_patience(self) -> bool:
        return now_ms() - self._patient_since[1] > 1_000 * self._patience_s


@dataclass(slots=True)
class _Run:
    """One stretch of work on a task."""

    task: TrainingTask
    cursor: Cursor
    progress: Progress
    looked_s: float = 0.0

    def lacks(self, until: Cursor) -> bool:
        """Tell whether something up to ``until`` was not streamed yet."""
        return self.cursor.log_id < until.log_id or self.cursor.recommendation_id < until.recommendation_id


async def claim_oldest(tasks: TaskStore, owner: str) -> tuple[TrainingTask, Cursor] | None:
    """Take the lease for the task whose turn it is; None when there is none, or another owner holds it."""
    task = await tasks.oldest_processing()
    cursor = None if task is None else await tasks.claim(owner, now_ms(), lease_ms())
    return None if task is None or cursor is None else (task, cursor)


def lease_ms() -> int:
    """Return until when a lease holds that is taken or kept now, in epoch ms."""
    return now_ms() + LEASE_MS


def now_ms() -> int:
    """Return the time, in epoch ms."""
    return time.time_ns() // 1_000_000
