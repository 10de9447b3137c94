"""Several workers on one port: binds it, starts them, replaces one that dies, and all of them one by one on SIGHUP.

The supervisor never answers a request. The port is bound once and every worker accepts from the same socket, so that a
connection no worker has taken yet waits for the next one instead of being lost with a worker (ADR 0014).
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from libs.adapters.supervisor_metrics import SupervisorMetrics
from libs.errors import RefusedStart
from services.serving.metrics_exchange import SUPERVISOR, offering
from services.serving.settings import Settings
from services.serving.worker import Place

log = structlog.get_logger(__name__)

REFUSED: Final = 2  # exit status of a worker that must not start with these settings

_BACKLOG: Final = 2_048  # connections that wait while no worker accepts
_PATIENCE_S: Final = 10.0  # with nobody ready, answers without a store are better than none
_REPLACED_WITHIN_S: Final = 60.0  # a rolling restart gives up on a new worker that is not ready by then
_STEADY_S: Final = 60.0  # a worker that lived that long is replaced at once
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_RESERVE_S: Final = 2.0  # beyond both drains, before a worker is killed


def supervise(settings: Settings) -> int:
    """Run the workers until SIGTERM; return the exit status: 0, or 2 when they refuse to start."""
    listener = _bound(settings.serving_host, settings.serving_port)
    folder = Path(tempfile.mkdtemp(prefix="moard-"))  # short: the path of a unix socket has at most 107 bytes
    try:
        return asyncio.run(Supervisor(settings, listener, folder).run())
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise RefusedStart(
            f"MOARD_SERVING_HOST={host} and MOARD_SERVING_PORT={port} cannot be listened on: {error}"
        ) from error


class Worker:
    """A worker process and the line to it."""

    def __init__(self, slot: int, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self.slot = slot
        self.pid = process.pid
        self.ready = asyncio.Event()
        self.started = time.monotonic()
        self._ended = asyncio.ensure_future(process.wait())
        self._process = process
        self._line = line
        self._listening = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        with self._line, contextlib.suppress(ConnectionError):
            while await asyncio.get_running_loop().sock_recv(self._line, 64):
                self.ready.set()

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.returncode

    @property
    def is_ready(self) -> bool:
        """Whether it said that it is ready, and runs."""
        return self.ready.is_set() and not self._ended.done()

    def when_ended(self, tell: Callable[["Worker"], None]) -> None:
        """Call ``tell`` with this worker when it has ended."""
        self._ended.add_done_callback(lambda _: tell(self))

    async def wait_ready(self, deadline_s: float) -> bool:
        """Return whether it is ready, having waited until then, its end, or the deadline."""
        ready = asyncio.ensure_future(self.ready.wait())
        await asyncio.wait({ready, self._ended}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.is_ready

    async def wait_ended(self, deadline_s: float | None = None) -> bool:
        """Return whether it has ended, having waited until then or the deadline."""
        await asyncio.wait({self._ended}, timeout=deadline_s)  # not awaited itself, or a cancelled waiter cancelled it
        return self._ended.done()

    async def stop(self, grace_s: float) -> None:
        """Let it finish what it has begun; kill it when it has not after ``grace_s``."""
        with contextlib.suppress(OSError):  # it hung up first
            self._line.shutdown(socket.SHUT_WR)  # heard also while it waits to be ready, when uvicorn hears no signal
        self._send(signal.SIGTERM)
        if not await self.wait_ended(grace_s):
            log.error("worker.killed", worker=self.slot, pid=self.pid, grace_s=grace_s)
            self._send(signal.SIGKILL)
            await self.wait_ended()

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


class Supervisor:
    """Keeps ``settings.serving_workers`` workers on one listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._slots = range(settings.serving_workers)
        self._workers: dict[int, Worker] = {}
        self._living: set[Worker] = set()  # with those that a rolling restart is starting or retiring
        self._locks = {slot: asyncio.Lock() for slot in self._slots}  # held by whoever replaces a worker
        self._rolling = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._status = 0
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._metrics = SupervisorMetrics(self._registry, [str(slot) for slot in self._slots])
        for slot in self._slots:
            self._metrics.ready.labels(str(slot)).set_function(partial(self._is_ready, slot))

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status."""
        host, port = self._listener.getsockname()[:2]
        log.info("supervisor.listening", host=host, port=port, workers=len(self._slots))
        async with self._tasks() as spawn, offering(self._folder, SUPERVISOR, self._registry):
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stopping.set)
            loop.add_signal_handler(signal.SIGHUP, lambda: spawn(self._roll()))
            for slot in self._slots:
                self._workers[slot] = await self._start(slot)
                spawn(self._keep(slot))
            await self._stopping.wait()
        await asyncio.gather(*(worker.stop(self._grace_s) for worker in list(self._living)))
        return self._status

    @contextlib.asynccontextmanager
    async def _tasks(self) -> AsyncIterator[Any]:
        tasks: set[asyncio.Task[None]] = set()

        def spawn(work: Coroutine[Any, Any, None]) -> None:
            task = asyncio.create_task(work)
            tasks.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("supervisor.failed", exc_info=error)
                self._status = 1
                self._stopping.set()

        yield spawn
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _grace_s(self) -> float:
        return 2 * self._settings.serving_drain_ms / 1_000 + _RESERVE_S

    def _is_ready(self, slot: int) -> bool:
        worker = self._workers.get(slot)
        return worker is not None and worker.is_ready

    async def _start(self, slot: int) -> Worker:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        others_serve = any(self._is_ready(other) for other in self._slots)
        patience_s = None if others_serve else _PATIENCE_S
        place = Place(slot, self._listener.fileno(), theirs.fileno(), self._folder, patience_s)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.serving",
                *place.arguments(),
                pass_fds=(place.listener, place.lifeline),
                stdin=asyncio.subprocess.DEVNULL,
            )
        log.info("worker.started", worker=slot, pid=process.pid)
        worker = Worker(slot, process, ours)
        self._living.add(worker)
        worker.when_ended(self._living.discard)
        return worker

    async def _keep(self, slot: int) -> None:
        """Replace the worker in this place whenever it ends by itself, later and later when it does not live long."""
        deaths = 0
        while True:
            worker = self._workers[slot]
            await worker.wait_ended()
            if self._stopping.is_set():
                return
            if self._workers[slot] is not worker:  # a rolling restart retired it
                deaths = 0
                continue
            if worker.status == REFUSED and not any(other.ready.is_set() for other in self._workers.values()):
                self._status = REFUSED
                self._stopping.set()
                return
            deaths = 0 if time.monotonic() - worker.started > _STEADY_S else deaths + 1
            delay_s = _BACKOFF_S[min(deaths, len(_BACKOFF_S)) - 1] if deaths else 0.0
            log.error("worker.died", worker=slot, pid=worker.pid, status=worker.status, again_in_s=delay_s)
            self._metrics.restarts.labels(str(slot)).inc()
            await asyncio.sleep(delay_s)
            async with self._locks[slot]:
                if self._workers[slot] is worker:
                    self._workers[slot] = await self._start(slot)

    async def _roll(self) -> None:
        """Replace all workers, one after the other, each only when its successor is ready."""
        if self._rolling.locked():
            log.warning("supervisor.rolling_already")
            return
        async with self._rolling:
            for slot in self._slots:
                if not await self._replace(slot):
                    self._metrics.rolling_restarts.labels("abandoned").inc()
                    return
            self._metrics.rolling_restarts.labels("done").inc()
            log.info("supervisor.rolled", workers=len(self._slots))

    async def _replace(self, slot: int) -> bool:
        async with self._locks[slot]:
            successor = await self._start(slot)
            if not await successor.wait_ready(_REPLACED_WITHIN_S):
                log.error("worker.successor_not_ready", worker=slot, pid=successor.pid, waited_s=_REPLACED_WITHIN_S)
                await successor.stop(self._grace_s)
                return False
            retired, self._workers[slot] = self._workers[slot], successor
        await retired.stop(self._grace_s)
        return True
