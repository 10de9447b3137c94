"""A learner on the in-memory twins, and an agent that needs no torch."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer, MemorySnapshotStore, MemoryTopicAdmin
from libs.adapters.ports import Outgoing
from libs.adapters.telemetry import LearnerMetrics
from libs.events.codec import encode
from libs.events.schema import Content, Logged
from libs.events.topics import CONTENTS, EVENTS, content_key, user_key
from libs.rl.agent import AgentSettings, Report
from libs.rl.agent_state import Mark
from libs.rl.exposure import Exposure
from libs.rl.poison import Poisoned
from libs.rl.snapshot import Snapshot
from libs.rl.transitions import Consumed, Opened, RowChange
from services.learner.assembly import Learner, Ports
from services.learner.settings import Settings
from services.learner.training_metrics import TrainingMetrics
from tests.snapshots import random_snapshot

DEADLINE_S = 20.0


async def eventually(true: Callable[[], object], what: str) -> None:
    """Return once ``true`` holds; fail with ``what`` after a while."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {DEADLINE_S:.0f} s for: {what}")
        await asyncio.sleep(0.01)


class FakeAgent:
    """Counts what it is told; a batch is ``batch`` rows, and the replay ratio is 1."""

    def __init__(self, batch: int = 4) -> None:
        self.batch = batch
        self.rows = self.inserted = self.updates = self.samples = 0
        self.untrained = 0
        self.applied: list[RowChange] = []
        self.contents: list[int] = []
        self.finite = True
        self.q_max = 0.2
        self.settings = AgentSettings()
        self.exploration_boost = 1.0
        self.slates: list[Exposure] = []
        self.kept = self.went_back = 0
        self.failure: Exception | None = None
        self.gate: Callable[[], None] = lambda: None
        self._trained: list[tuple[str, int]] = []
        self._fresh: list[tuple[str, int]] = []

    def put_content(self, content_id: int, vector: object, hidden: bool) -> None:
        self.contents.append(content_id)

    def apply(self, changes: Sequence[RowChange]) -> None:
        self.gate()
        if self.failure is not None:
            raise self.failure
        self.applied += changes
        opened = sum(isinstance(change, Opened) for change in changes)
        self.rows += opened
        self.inserted += opened
        self.untrained += opened
        self._fresh += [(change.event_id, change.append_ms) for change in changes if isinstance(change, Consumed)]

    def due(self, force: bool = False) -> int:
        if self.samples + self.batch <= self.inserted:
            return self.batch
        return 1 if force and self.untrained else 0

    def update(self, batch_size: int) -> Report:
        self.samples += batch_size
        if self.finite:
            self.updates += 1
            self.untrained = 0
            self._trained += self._fresh
            self._fresh = []
        return Report({"total": 0.5}, 0.1, self.q_max, 0.3, 0.4, 1.0, batch_size, self.finite, value_bound=10.0)

    def keep(self) -> None:
        self.kept += 1

    def go_back(self) -> None:
        self.went_back += 1

    def expel(self) -> list[Poisoned]:
        return [Poisoned(self.updates, False, (1,), (), (), ("terms",), (), self.updates)]

    def exposure(self, slates: int, skip: int = 0) -> Exposure:
        return self.slates[1 if skip else 0] if self.slates else Exposure(0, 0.0, 0.0, 0.0, 0.0)

    def trained(self) -> list[tuple[str, int]]:
        done, self._trained = self._trained, []
        return done

    def snapshot(self) -> Snapshot:
        return random_snapshot([1, 2, 3], vector_size=4)

    def state(self, since: Mark) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"rows": np.arange(self.rows)}, {"updates": self.updates}


def learner_metrics() -> LearnerMetrics:
    return LearnerMetrics(CollectorRegistry(), [(EVENTS, 0), (CONTENTS, 0)])


def training_metrics() -> TrainingMetrics:
    return TrainingMetrics(learner_metrics(), lambda: 0)


class Stand:
    """Log, snapshot store and checkpoint folder that outlive learners, and the learners one after the other."""

    def __init__(self, folder: Path, log: MemoryLog | None = None, **settings: Any) -> None:
        self.log = log or MemoryLog()
        self.store = MemorySnapshotStore()
        self.folder = folder
        self.settings: dict[str, Any] = {
            "learner_checkpoint_path": str(folder),
            "learner_learning_starts": 1,
            "learner_capacity": 1_000,
            "learner_snapshot_interval_s": 0.05,
            "learner_checkpoint_interval_s": 0.1,
            "learner_idle_poll_ms": 10,
            "events_partitions": 2,
            "vector_size": 4,
        } | settings
        for spec in topic_specs(self._settings()):
            self.log.create(spec)
        self.registry = CollectorRegistry()

    def learner(self, **settings: Any) -> Learner:
        """Return the next learner of this log and folder, with a registry of its own."""
        self.registry = CollectorRegistry()
        ports = Ports(MemoryTopicAdmin(self.log), MemoryProducer(self.log), self.reader(), self.store)
        return Learner(self._settings(**settings), ports, self.registry)

    def reader(self) -> MemoryPartitionReader:
        """Return what the next learner reads with."""
        return MemoryPartitionReader(self.log, "moard-learner")

    def append(self, *documents: Logged | Content | bytes) -> None:
        for document in documents:
            if isinstance(document, bytes):
                self.log.append(Outgoing(EVENTS, b"somebody", document))
            elif isinstance(document, Content):
                self.log.append(Outgoing(CONTENTS, content_key(document.content_id), encode(document)))
            else:
                self.log.append(Outgoing(EVENTS, user_key(document.user_id), encode(document)))

    async def read(self, records: int) -> None:
        """Return once the learner has taken in so many records of all topics together."""
        await eventually(lambda: self.total("position") >= records, f"{records} records to be read")

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"moard_learner_{name}", labels) or 0.0

    def total(self, name: str) -> float:
        families = {f"moard_learner_{name}", f"moard_learner_{name.removesuffix('_total')}"}
        return sum(
            sample.value
            for family in self.registry.collect()
            if family.name in families
            for sample in family.samples
            if sample.name == f"moard_learner_{name}"
        )

    def _settings(self, **settings: Any) -> Settings:
        return Settings(**(self.settings | settings))
