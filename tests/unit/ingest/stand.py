"""Ingest over the twins, and a client of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.keys import KeyRing
from libs.adapters.memory import MemoryContentStore, MemoryLog, MemoryProducer, MemoryUserHistory
from libs.adapters.metrics import IngestMetrics
from libs.events.codec import decode_event
from libs.events.schema import Logged
from libs.events.topics import EVENTS
from libs.text.vectors import TextVectors
from services.ingest.app import EventIntake, create_app
from services.ingest.contents import ContentIntake
from services.ingest.erasure import Erasures
from services.ingest.history import PromptHistory
from services.ingest.own_writes import OwnWrites
from services.ingest.puts import Puts
from services.ingest.settings import Settings


class PartlyDeafProducer(MemoryProducer):
    """Appends to the log, except what a test says, and reports what a test says as pending."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.lost: set[int] = set()
        self.waiting = 0

    async def append(self, records: Any, timeout_s: float) -> list[bool]:
        taken = [record for index, record in enumerate(records) if index not in self.lost]
        kept = iter(await super().append(taken, timeout_s))
        return [False if index in self.lost else next(kept) for index in range(len(records))]

    @property
    def pending(self) -> int:
        return self.waiting


@dataclass
class Stand:
    """The application and everything it is made of."""

    settings: Settings
    vectors: TextVectors | None = None
    keys: KeyRing | None = None
    log: MemoryLog = field(default_factory=MemoryLog)
    history: MemoryUserHistory = field(default_factory=MemoryUserHistory)
    contents: MemoryContentStore = field(default_factory=MemoryContentStore)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        for spec in topic_specs(self.settings):
            self.log.create(spec)
        self.metrics = IngestMetrics(self.registry)
        self.producer = PartlyDeafProducer(self.log)
        self.prompt = PromptHistory(
            self.history, self.metrics, self.settings.history_min_dwell_ms, timeout_s=1.0, clock_s=lambda: self.now_s
        )
        self.now_s = 0.0
        self.own_writes = OwnWrites()
        intake = ContentIntake(
            self.contents,
            self.producer,
            self.vectors,
            Puts(),
            vector_size=self.settings.vector_size,
            append_timeout_s=1.0,
        )
        events = EventIntake(self.producer, self.prompt, self.own_writes, self.metrics, self.settings)
        self.missing: list[str] = []
        self.app = create_app(
            events,
            intake,
            Erasures(self.producer, self.history, append_s=1.0),
            self._waiting_for,
            metrics=self.metrics,
            registry=self.registry,
            settings=self.settings,
            keys=self.keys,
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://ingest")

    async def _waiting_for(self) -> list[str]:
        return self.missing

    async def post(self, body: Any) -> httpx.Response:
        """Post events: bytes as they are, anything else as JSON."""
        if isinstance(body, bytes):
            return await self.client.post("/api/v1/events", content=body)
        return await self.client.post("/api/v1/events", json=body)

    async def put(self, content_id: object, body: Any) -> httpx.Response:
        """Put a content."""
        if isinstance(body, bytes):
            return await self.client.put(f"/api/v1/contents/{content_id}", content=body)
        return await self.client.put(f"/api/v1/contents/{content_id}", json=body)

    def logged(self) -> list[Logged]:
        """Return the events on the topic."""
        return [decode_event(record.value) for record in self.log.records(EVENTS)]

    def counted(self, result: str) -> float:
        """Return the counter of events by result."""
        return self.registry.get_sample_value("moard_ingest_events_total", {"result": result}) or 0.0


async def until(condition: Callable[[], object], what: str, deadline_s: float = 10.0) -> None:
    """Return as soon as the condition holds; fail with ``what`` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {deadline_s:.0f} s for: {what}"
        await asyncio.sleep(0.01)


def settings_of(**values: Any) -> Settings:
    """Return settings of a small world, whatever this machine's environment says."""
    return Settings(**({"_env_file": None, "vector_size": 3, "ingest_unacknowledged_records": 1_000} | values))
