"""The training thread: it alone owns the agent. The event loop hands it work through a bounded queue."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import numpy as np
import structlog

from libs.rl.agent import Agent
from libs.rl.agent_state import BEGINNING, Mark
from libs.rl.poison import Poisoned
from libs.rl.snapshot import Snapshot
from libs.rl.transitions import Consumed, Organic, RowChange
from services.learner.guard import Guard
from services.learner.intake import PutContent
from services.learner.schedules import Schedule
from services.learner.training_metrics import TrainingMetrics

log = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")

Change: TypeAlias = RowChange | PutContent

_IDLE_S: Final = 0.5  # how long the thread sleeps at most; work wakes it at once
_FORCED_UPDATES: Final = 4  # for one snapshot: enough for a thousand new rows, and no more than 0.1 s


@dataclass(frozen=True, slots=True)
class Taken:
    """One snapshot, and the interactions (event id, append ms) whose first gradient it is the first to contain.

    ``loss`` and ``q_mean`` are means over the updates since the snapshot before, None when there were none.
    """

    snapshot: Snapshot
    step: int
    trained: list[tuple[str, int]]
    loss: float | None = None
    q_mean: float | None = None


@dataclass(frozen=True, slots=True)
class Errand(Generic[ResultT]):
    """A question to the agent, answered when everything queued before it has been applied."""

    ask: Callable[[Agent], ResultT]
    answer: "asyncio.Future[ResultT]"


class Trainer:
    """Applies row changes in order and trains when the schedule says so.

    Parameters
    ----------
    schedule
        When to train, and on how many rows.
    queue_changes
        Changes waiting at which ``absorb`` begins to wait.

    Notes
    -----
    Whatever the thread raises is raised by the next call from the loop: a learner that cannot train must not read on.
    """

    def __init__(
        self,
        agent: Agent,
        metrics: TrainingMetrics,
        schedule: Schedule,
        queue_changes: int,
    ) -> None:
        self._agent = agent
        self._metrics = metrics
        self._schedule = schedule
        self._limit = queue_changes
        self._queue: deque[Sequence[Change] | Errand[Any]] = deque()
        self._waiting = 0
        self._wake = threading.Condition()
        self._room = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._failure: BaseException | None = None
        self._stopping = False
        self._trained: deque[tuple[str, int]] = deque(maxlen=10_000)  # only a sample is ever published
        self._course: deque[tuple[float, float]] = deque(maxlen=10_000)
        self._guard = Guard(agent, metrics)
        self.step = agent.updates
        self.fresh = False

    # ---- called by the event loop

    def start(self) -> None:
        """Start the thread; from now on nobody else may touch the agent."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def absorb(self, changes: Sequence[Change]) -> None:
        """Queue changes, in order; returns at once while there is room."""
        self.check()
        while self._waiting >= self._limit:
            self._room.clear()
            await self._room.wait()
            self.check()
        if changes:
            self._put(changes, len(changes))

    async def snapshot(self) -> Taken:
        """Return the weights after everything absorbed so far; the schedule may let fresh rows train first."""
        return await self._ask(self._take)

    async def state(self, since: Mark = BEGINNING) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return copies of the agent's state after everything absorbed so far; of its rows those changed since then."""
        return await self._ask(lambda agent: agent.state(since))

    def take_expelled(self) -> list[Poisoned]:
        """Return the rows that were taken out since the last call because their gradient was not finite.

        Those that a state leaves out are here once that state is: their dead letters come before its checkpoint.
        """
        expelled = self._guard.expelled
        return [expelled.popleft() for _ in range(len(expelled))]

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and self._failure is None

    @property
    def sound(self) -> bool:
        """Whether the weights may be published."""
        return self._guard.sound

    def check(self) -> None:
        """Raise what the thread raised, if it did."""
        if self._failure is not None:
            raise RuntimeError("the training thread failed") from self._failure

    async def stop(self) -> None:
        """Let the thread end after the work at hand; what is still queued is dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _put(self, work: Sequence[Change] | Errand[Any], size: int) -> None:
        with self._wake:
            self.check()  # once more under the lock: nobody empties the queue of a thread that has failed
            self._queue.append(work)
            self._waiting += size
            self._wake.notify()

    async def _ask(self, ask: Callable[[Agent], ResultT]) -> ResultT:
        self.check()
        answer: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._put(Errand(ask, answer), 0)
        try:
            return await answer
        finally:
            self.check()

    # ---- the thread

    def _run(self) -> None:
        try:
            self._train()  # a checkpoint may have come between the rows and their updates
            while not self._stopping:
                work = self._next()
                if isinstance(work, Errand):
                    self._answer(work)
                elif work:
                    self._apply(work)
                self._train()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the event loop
            self._fail(error)

    def _next(self) -> Sequence[Change] | Errand[Any] | None:
        """Return the oldest work, or None after a while without any."""
        with self._wake:
            if not self._queue and not self._stopping:
                self._wake.wait(_IDLE_S)
            return self._queue.popleft() if self._queue else None

    def _answer(self, errand: Errand[Any]) -> None:
        try:
            result = errand.ask(self._agent)
        except BaseException:
            self._call_loop(_cancel, errand.answer)
            raise
        self._call_loop(_resolve, errand.answer, result)

    def _apply(self, work: Sequence[Change]) -> None:
        rows_before = self._agent.inserted
        start = 0
        for index, change in enumerate(work):
            if isinstance(change, PutContent):
                self._agent.apply(cast(Sequence[RowChange], work[start:index]))
                self._agent.put_content(change.content_id, change.vector, change.hidden)
                start = index + 1
        self._agent.apply(cast(Sequence[RowChange], work[start:]))
        self._schedule.applied(self._agent, self._agent.inserted - rows_before)
        self._metrics.applied([change.append_ms for change in work if isinstance(change, (Consumed, Organic))])
        with self._wake:
            self._waiting -= len(work)
            has_room = self._waiting <= self._limit // 2
        if has_room:
            self._call_loop(self._room.set)

    def _train(self) -> None:
        self._show()
        while not self._stopping and (size := self._schedule.due(self._agent, waiting=bool(self._queue))):
            self._update(size)
            self._show()

    def _show(self) -> None:
        self.fresh = self._schedule.forced(self._agent) > 0
        self._metrics.buffer(self._agent.rows, self._agent.inserted, self._agent.samples, self._waiting)

    def _update(self, size: int) -> None:
        began = time.perf_counter()
        report = self._agent.update(size)
        self._guard.after(report)
        self.step = self._agent.updates
        trained = [(event_id.removeprefix("organic:"), append_ms) for event_id, append_ms in self._agent.trained()]
        self._trained.extend(trained)
        if report.finite:
            self._course.append((report.loss["total"], report.q_mean))
        self._metrics.updated(report, time.perf_counter() - began, [append_ms for _, append_ms in trained])

    def _take(self, agent: Agent) -> Taken:
        for _ in range(_FORCED_UPDATES):
            if not (size := self._schedule.forced(agent)):
                break
            self._update(size)
        trained = list(self._trained)
        self._trained.clear()
        course = list(self._course)
        self._course.clear()
        return Taken(agent.snapshot(), agent.updates, trained, *_means(course))

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        log.critical("trainer.failed", error=repr(error))
        with self._wake:
            abandoned = [work.answer for work in self._queue if isinstance(work, Errand)]
            self._queue.clear()
        for answer in abandoned:
            self._call_loop(_cancel, answer)
        self._call_loop(self._room.set)

    def _call_loop(self, call: Callable[..., object], *values: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)


def _means(course: list[tuple[float, float]]) -> tuple[float | None, float | None]:
    if not course:
        return None, None
    loss, q_mean = np.array(course).mean(axis=0).tolist()
    return loss, q_mean


def _resolve(answer: "asyncio.Future[ResultT]", result: ResultT) -> None:
    if not answer.done():
        answer.set_result(result)


def _cancel(answer: "asyncio.Future[Any]") -> None:
    answer.cancel()
