"""The parts of serving, put together from ports: the real ones in ``__main__``, the twins in tests and quickstart."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from libs.adapters.dead_letters import DeadLetters
from libs.adapters.event_log import topic_specs
from libs.adapters.keys import KeyRing
from libs.adapters.memory_training import MemoryLegacyLog, MemoryTaskStore
from libs.adapters.metrics import ServingMetrics
from libs.adapters.model_ports import ModelStore, ServedSnapshots
from libs.adapters.ports import ContentStore, KeyStore, PartitionReader, Producer, TopicAdmin, UserHistory
from libs.adapters.settings import in_force
from libs.adapters.status import MemoryStatusBoard, StatusBoard, StatusPublisher, instance_of
from libs.adapters.training_ports import LegacyLog, TaskStore
from libs.errors import StoreUnavailable
from libs.events.schema import MAX_CANDIDATES
from libs.rl.action_space import ActionSpace
from libs.rl.slates import Exploration
from libs.text.vectors import TextVectors
from services.serving.console.dead_letters import DeadLetterView
from services.serving.console.stream import Hub
from services.serving.contents import Contents
from services.serving.contents_feed import ContentsFeed
from services.serving.last_good import LastGood
from services.serving.model_watcher import ModelWatcher
from services.serving.models import Models
from services.serving.outbox import Outbox
from services.serving.pins import Pins
from services.serving.popularity import Popularity
from services.serving.proposals import SOURCES
from services.serving.proposer import SEEN, Proposer
from services.serving.recommender import Recommender
from services.serving.settings import Settings
from services.serving.status import ServingStatus
from services.serving.training_lookout import Lookout, Turn
from services.serving.training_tasks import Training
from services.serving.training_worker import Keeper, TrainingPorts, TrainingWorker
from services.serving.users import Users

log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_TIDY_S = 3_600.0
_DAY_MS = 24 * 3_600_000

# More than are proposed, as the caller's exclusions and the user's history leave gaps.
_GAPS = MAX_CANDIDATES + SEEN


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world. ``reader`` makes a fresh reader each time it is called; ``migrate`` blocks.

    Without ``tasks`` and ``legacy`` there is nothing to back-fill, and tasks end with the process. ``training`` has
    tasks worked on elsewhere; without it this process does.
    """

    topics: TopicAdmin
    producer: Producer
    reader: Callable[[], PartitionReader]
    snapshots: ServedSnapshots
    models: ModelStore
    history: UserHistory
    store: ContentStore
    texts: TextVectors | None = None
    keys: KeyStore | None = None
    migrate: Callable[[], None] | None = None
    tasks: TaskStore = field(default_factory=MemoryTaskStore)
    legacy: LegacyLog = field(default_factory=MemoryLegacyLog)
    training: Turn | None = None
    keeper: Keeper | None = None
    board: StatusBoard = field(default_factory=MemoryStatusBoard)


class Serving:
    """Everything behind the HTTP routes. ``running`` starts and stops the background work."""

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        registry: CollectorRegistry,
        rng: np.random.Generator | None = None,
        slot: int | None = None,
    ) -> None:
        self.settings = settings
        self.instance = instance_of(settings.serving_port, slot)
        self.registry = registry
        self.metrics = ServingMetrics(registry)
        self.texts = ports.texts
        self.keys = None if ports.keys is None else KeyRing(ports.keys)
        self._ports = ports
        self.ready = asyncio.Event()
        self._migrated = asyncio.Event()
        space = ActionSpace(settings.vector_size)
        self.outbox = Outbox(
            ports.producer,
            self.metrics,
            settings.serving_impression_buffer,
            settings.serving_impression_deadline_ms / 1_000,
        )
        self.contents = _contents(settings, ports, space, self.outbox, self.metrics)
        self.feed = ContentsFeed(self.contents, ports.reader, settings.contents_partitions)
        self.popularity = Popularity(
            ports.history,
            kept=settings.serving_propose_count + _GAPS,
            refresh_s=settings.serving_popular_refresh_ms / 1_000,
            deadline_s=settings.serving_history_deadline_ms / 1_000,
        )
        self.watcher = ModelWatcher(
            ports.snapshots,
            ports.models,
            space,
            self.metrics,
            LastGood(Path(settings.state_path) / "serving", settings.model_name),
            rule=settings.serving_rule,
            poll_s=settings.serving_snapshot_poll_ms / 1_000,
        )
        self.pins = Pins(ports.snapshots, ports.models, self.watcher)
        self.models = Models(ports.snapshots, ports.models, self.watcher, self.pins)
        self.users = Users(
            ports.history,
            ports.store,
            history_deadline_s=settings.serving_history_deadline_ms / 1_000,
            sql_deadline_s=settings.serving_database_deadline_ms / 1_000,
            remembered=settings.serving_known_users,
        )
        self.recommender = self._recommender(rng or np.random.default_rng())
        self._status = ServingStatus(self.metrics, self.waiting_for, lambda: self.watcher.pin.name)
        self.hub = Hub(ports.board, self.instance, self._status.describe, lambda: self._pinned)
        self.letters = DeadLetterView(DeadLetters(ports.reader))
        self.training = _training(settings, ports, self.models)

    def _recommender(self, rng: np.random.Generator) -> Recommender:
        settings = self.settings
        proposer = Proposer(
            self.contents,
            self.popularity,
            self.metrics,
            rng,
            shares={source: getattr(settings, f"serving_propose_{source}") for source in SOURCES},
            count=settings.serving_propose_count,
            seen=settings.serving_propose_seen,
        )
        exploration = Exploration(settings.serving_temperature, settings.serving_epsilon, settings.serving_greedy)
        return Recommender(
            self.users, self.contents, proposer, self.watcher, self.outbox, exploration, self.metrics, rng
        )

    def waiting_for(self) -> list[str]:
        """Return what is missing before traffic should come, empty when ready."""
        parts = {"contents": self.feed.caught_up, "snapshot": self.watcher.tried, "warm-up": self.ready}
        missing = [name for name, done in parts.items() if not done.is_set()]
        return missing + (["keys"] if self.keys is not None and not self.keys.known else [])

    @contextlib.asynccontextmanager
    async def running(self, crashed: Callable[[BaseException], None] | None = None) -> AsyncIterator["Serving"]:
        """Do the background work inside; at the end send what is waiting, within the drain time.

        ``crashed`` is told of a background task that ended with an error: the process must not go on half alive.
        """
        tasks = [self._spawn(work, crashed) for work in (self._follow(), self._connect(), self._warm_up())]
        following = [self.watcher.run(), self.popularity.run(), self._obey_pins(), self._train(), self._tidy()]
        following += [self._published().run(), self.hub.run()]
        if self.keys is not None:
            following.append(self.keys.run())
        tasks += [self._spawn(work, crashed) for work in following]
        sending = self._spawn(self.outbox.run(), crashed)
        try:
            yield self
        finally:
            await _cancel(*tasks)
            self.outbox.close()
            await asyncio.wait([sending], timeout=self.settings.serving_drain_ms / 1_000)
            await _cancel(sending)
            await self._close()

    async def _follow(self) -> None:
        await _retried("kafka.topics", lambda: self._ports.topics.ensure(topic_specs(self.settings)))
        await self.feed.run()

    async def _connect(self) -> None:
        if (migrate := self._ports.migrate) is not None:
            await _retried("sql.migrate", lambda: asyncio.to_thread(migrate))
        self._migrated.set()
        await _retried("sql.connect", self._ports.store.start)

    async def _train(self) -> None:
        await self._migrated.wait()
        await self.training.lookout.run()

    async def _tidy(self) -> None:
        """Forget tasks that ended long ago."""
        await self._migrated.wait()
        kept_ms = int(self.settings.serving_task_retention_days * _DAY_MS)
        while True:
            await _retried("sql.tasks", lambda: self._ports.tasks.forget_ended(time.time_ns() // 1_000_000 - kept_ms))
            await asyncio.sleep(_TIDY_S)

    async def _obey_pins(self) -> None:
        await self._migrated.wait()
        await self.pins.run()

    async def _warm_up(self) -> None:
        await self.feed.caught_up.wait()
        await self.watcher.tried.wait()
        self.recommender.warm_up()
        self.ready.set()
        log.info("serving.ready", contents=len(self.contents), snapshot=self.watcher.served is not None)

    @property
    def _pinned(self) -> tuple[str | None, int]:
        pin = self.watcher.pin
        return pin.name, 0 if pin.name is None else self.models.served_version

    def _published(self) -> StatusPublisher:
        status, failures = self._status, self.metrics.status_failures
        return StatusPublisher(
            self._ports.board, "serving", self.instance, status.describe, in_force(self.settings), failures
        )

    async def _close(self) -> None:
        await self.outbox.stop()
        ports = self._ports
        for port in (ports.topics, ports.snapshots, ports.models, ports.history, ports.store, ports.board):
            await port.close()
        await self._ports.tasks.close()
        await self._ports.legacy.close()
        if self._ports.keys is not None:
            await self._ports.keys.close()
        if self.texts is not None:
            self.texts.close()

    def _spawn(
        self, work: Coroutine[Any, Any, None], crashed: Callable[[BaseException], None] | None
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("serving.background_task_failed", exc_info=error)
                if crashed is not None:
                    crashed(error)

        task.add_done_callback(ended)
        return task


def _contents(
    settings: Settings, ports: Ports, space: ActionSpace, outbox: Outbox, metrics: ServingMetrics
) -> Contents:
    return Contents(
        space,
        ports.store,
        outbox.offer,
        ports.texts,
        metrics,
        deadline_s=settings.serving_database_deadline_ms / 1_000,
        unknown_limit=settings.serving_unknown_contents,
        unknown_ttl_s=settings.serving_unknown_contents_ttl_ms / 1_000,
        newest=settings.serving_propose_count + _GAPS,
    )


def _training(settings: Settings, ports: Ports, models: Models) -> Training:
    turn = ports.training
    if turn is None:
        worked_on = TrainingPorts(ports.tasks, ports.legacy, ports.producer, ports.snapshots, ports.keeper or models)
        turn = TrainingWorker(worked_on, settings, uuid.uuid4().hex).turn
    return Training(ports.tasks, ports.legacy, Lookout(turn), settings.serving_train_wait_ms / 1_000)


async def _retried(what: str, attempt: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await attempt()
            return
        except StoreUnavailable as error:
            log.warning("serving.store_unavailable", store=what, error=str(error))
            await asyncio.sleep(_RETRY_S)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
