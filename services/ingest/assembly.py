"""The parts of ingest, put together from ports: the real ones in ``__main__``, the twins in tests and quickstart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.keys import KeyRing
from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import (
    ContentStore,
    GroupOffsets,
    GroupReader,
    KeyStore,
    PartitionReader,
    Producer,
    TopicAdmin,
    TopicPartition,
    UserHistory,
)
from libs.adapters.settings import in_force
from libs.adapters.status import MemoryStatusBoard, StatusBoard, StatusPublisher, instance_of
from libs.errors import StoreUnavailable
from libs.events.topics import CONTENTS, EVENTS
from libs.text.vectors import TextVectors
from services.ingest.announced import Announced
from services.ingest.app import EventIntake, create_app
from services.ingest.catalogue import CatalogueFollower
from services.ingest.contents import ContentIntake
from services.ingest.erasure import Erasures
from services.ingest.history import PromptHistory
from services.ingest.learner_lag import LearnerLag
from services.ingest.own_writes import OwnWrites
from services.ingest.patience import patiently
from services.ingest.projector import Projector
from services.ingest.puts import Puts
from services.ingest.settings import Settings
from services.ingest.status import IngestStatus

log = structlog.get_logger(__name__)

Crashed = Callable[[BaseException], None]

_PROBE_S: Final = 2.0  # for the broker to answer a readiness probe; orchestrators ask every few seconds


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world. ``replay_reader`` makes a fresh reader each time; ``migrate`` blocks."""

    topics: TopicAdmin
    producer: Producer
    history_reader: GroupReader
    replay_reader: Callable[[], PartitionReader]
    catalogue_reader: PartitionReader
    learner_offsets: GroupOffsets
    history: UserHistory
    contents: ContentStore
    vectors: TextVectors | None = None
    keys: KeyStore | None = None
    migrate: Callable[[], None] | None = None
    board: StatusBoard = field(default_factory=MemoryStatusBoard)


class Ingest:
    """The HTTP application, the projector and the follower. ``running`` starts and stops what they need."""

    def __init__(self, settings: Settings, ports: Ports, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._ports = ports
        self._topics_exist = asyncio.Event()
        self._tables_exist = asyncio.Event()
        self.metrics = IngestMetrics(registry)
        deadline_s = settings.ingest_append_deadline_ms / 1_000
        own_writes, puts = OwnWrites(), Puts()
        self.events = EventIntake(ports.producer, self._prompt_history(), own_writes, self.metrics, settings)
        self.contents = ContentIntake(
            ports.contents,
            ports.producer,
            ports.vectors,
            puts,
            vector_size=settings.vector_size,
            append_timeout_s=deadline_s,
        )
        self.erasures = Erasures(ports.producer, ports.history, deadline_s)
        self.projector = Projector(
            ports.history_reader,
            ports.replay_reader,
            ports.history,
            own_writes,
            self.metrics,
            partitions=settings.events_partitions,
            min_dwell_ms=settings.history_min_dwell_ms,
            max_records=settings.projector_records,
        )
        self.follower = CatalogueFollower(
            ports.contents,
            Announced(ports.catalogue_reader, settings.contents_partitions),
            ports.producer,
            ports.vectors,
            puts,
            self.metrics,
            page=settings.catalogue_page,
            compared_page=settings.catalogue_compared_page,
            interval_s=settings.catalogue_interval_s,
            removal_share=settings.catalogue_removal_share,
        )
        counts = {EVENTS: settings.events_partitions, CONTENTS: settings.contents_partitions}
        read_by_learner = [TopicPartition(topic, at) for topic, count in counts.items() for at in range(count)]
        self.learner_lag = LearnerLag(ports.learner_offsets, read_by_learner, self.metrics)
        self.keys = None if ports.keys is None else KeyRing(ports.keys)
        self._registry = registry

    def app(self, crashed: Crashed | None = None) -> FastAPI:
        """Return the HTTP application; its lifespan runs the background work."""

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with self.running(crashed):
                yield

        return create_app(
            self.events,
            self.contents,
            self.erasures,
            self.waiting_for,
            metrics=self.metrics,
            registry=self._registry,
            settings=self._settings,
            keys=self.keys,
            before_scrape=self._before_scrape,
            lifespan=lifespan,
        )

    async def waiting_for(self) -> list[str]:
        """Return what is missing before requests should come, empty when ready."""
        prepared = {"topics": self._topics_exist, "tables": self._tables_exist}
        missing = [name for name, done in prepared.items() if not done.is_set()]
        if self.keys is not None and not self.keys.known:
            missing.append("keys")
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._ports.topics.cluster_id()
        except (StoreUnavailable, TimeoutError):
            missing.append("broker")
        return missing

    @contextlib.asynccontextmanager
    async def running(self, crashed: Crashed | None = None) -> AsyncIterator[None]:
        """Do the background work inside; at the end flush what the broker has not acknowledged yet.

        ``crashed`` is told of a background task that ended with an error: the process must not go on half alive.
        """
        tasks = [
            _spawn("projector", self._project(), crashed),
            _spawn("catalogue", self._follow_catalogue(), crashed),
            _spawn("learner_lag", self._follow_learner(), crashed),
            _spawn("status", self._status().run(), crashed),
        ]
        if self.keys is not None:
            tasks.append(_spawn("keys", self.keys.run(), crashed))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _project(self) -> None:
        await patiently("topics.ensure", lambda: self._ports.topics.ensure(topic_specs(self._settings)))
        await patiently("producer.start", self._ports.producer.start)
        self._topics_exist.set()
        await self.projector.run()

    async def _follow_catalogue(self) -> None:
        if (migrate := self._ports.migrate) is not None:
            await patiently("tables.migrate", lambda: asyncio.to_thread(migrate))
        self._tables_exist.set()
        await patiently("tables.connect", self._ports.contents.start)
        await self._topics_exist.wait()
        await self.follower.run()

    async def _follow_learner(self) -> None:
        await self._topics_exist.wait()
        await self.learner_lag.run()

    async def _close(self) -> None:
        await self._ports.producer.stop()
        for port in (self._ports.topics, self._ports.history, self._ports.contents, self._ports.board):
            await port.close()
        if self._ports.keys is not None:
            await self._ports.keys.close()
        if self._ports.vectors is not None:
            self._ports.vectors.close()

    def _prompt_history(self) -> PromptHistory:
        return PromptHistory(
            self._ports.history,
            self.metrics,
            self._settings.history_min_dwell_ms,
            self._settings.ingest_history_deadline_ms / 1_000,
        )

    def _status(self) -> StatusPublisher:
        settings, ports = self._settings, self._ports
        status = IngestStatus(self.metrics, self.waiting_for, lambda: ports.producer.pending)
        instance = instance_of(settings.ingest_port)
        failures = self.metrics.status_failures
        return StatusPublisher(ports.board, "ingest", instance, status.describe, in_force(settings), failures)

    def _before_scrape(self) -> None:
        self.metrics.buffer_records.set(self._ports.producer.pending)


def _spawn(name: str, work: Coroutine[Any, Any, None], crashed: Crashed | None) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("task.crashed", task=name, exc_info=error)
        if crashed is not None:
            crashed(error)

    task.add_done_callback(ended)
    return task
