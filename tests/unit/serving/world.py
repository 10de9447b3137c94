"""Serving over the in-memory twins, reached through its ASGI application."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import numpy as np

from libs.adapters.memory import (
    MemoryContentStore,
    MemoryLegacyLog,
    MemoryLog,
    MemoryModelStore,
    MemorySnapshotStore,
    MemoryTaskStore,
    MemoryUserHistory,
)
from libs.adapters.ports import Outgoing, SnapshotMeta
from libs.adapters.status import MemoryStatusBoard
from libs.events.codec import decode_event, encode
from libs.events.schema import Content, Impression
from libs.events.topics import CONTENTS, EVENTS, content_key
from libs.rl.snapshot import FORMAT, Snapshot, arch
from libs.rl.snapshot import encode as encode_snapshot
from libs.text.vectors import TextVectors
from services.serving.assembly import Serving
from services.serving.settings import Settings
from services.serving.training_worker import Keeper
from tests.snapshots import random_snapshot

VECTOR = 8


async def until(condition: Callable[[], Any], deadline_s: float = 20.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - any condition, also one that no event announces
            await asyncio.sleep(0.002)


def meta_of(snapshot: Snapshot, blob: bytes, version: int, **fields: Any) -> SnapshotMeta:
    """Return what a learner publishes beside a blob."""
    values: dict[str, Any] = {
        "version": version,
        "epoch": 1,
        "step": 1,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "size_bytes": len(blob),
        "created_ms": 0,
        "format": int(FORMAT),
        "arch": arch(snapshot),
        "offsets": {},
    }
    return SnapshotMeta(**(values | fields))


def vector(seed: int) -> tuple[float, ...]:
    """Return a text vector that single precision holds exactly as written."""
    return tuple(np.random.default_rng(seed).normal(size=VECTOR).astype(np.float32).astype(float).tolist())


class EchoModel:
    """A text model whose vectors say what they were made from."""

    version = "echo"

    def infer(self, title: str, description: str = "") -> np.ndarray:
        return np.array([len(title), len(description), *[1.0] * (VECTOR - 2)], np.float32)


@dataclass
class World:
    """Serving and everything around it that a test may look at or take away."""

    settings: Settings
    log: MemoryLog = field(default_factory=MemoryLog)
    snapshots: MemorySnapshotStore = field(default_factory=MemorySnapshotStore)
    models: MemoryModelStore = field(default_factory=MemoryModelStore)
    history: MemoryUserHistory = field(default_factory=MemoryUserHistory)
    store: MemoryContentStore = field(default_factory=MemoryContentStore)
    texts: TextVectors | None = None
    tasks: MemoryTaskStore = field(default_factory=MemoryTaskStore)
    legacy: MemoryLegacyLog = field(default_factory=MemoryLegacyLog)
    keeper: Keeper | None = None
    board: MemoryStatusBoard = field(default_factory=MemoryStatusBoard)
    crashes: list[BaseException] = field(default_factory=list)
    serving: Serving = field(init=False)
    client: httpx.AsyncClient = field(init=False)

    async def put(self, *contents: Content) -> None:
        """Put contents on the topic and wait until they are resident."""
        changes = self.serving.contents.space.changes if hasattr(self, "serving") else 0
        for content in contents:
            self.log.append(Outgoing(CONTENTS, content_key(content.content_id), encode(content)))
        if hasattr(self, "serving"):
            await until(lambda: self.serving.contents.space.changes >= changes + len(contents))
            await until(lambda: all(content.content_id in self.serving.contents for content in contents))

    async def publish(
        self,
        version: int = 1_000,
        content_ids: tuple[int, ...] = (1, 2, 3),
        boost: float = 1.0,
        consumption: str = "multi",
        **fields: Any,
    ) -> Snapshot:
        """Publish a random snapshot; wait until it serves, if serving runs."""
        snapshot = random_snapshot(content_ids, VECTOR, consumption, seed=version)
        snapshot = replace(snapshot, config={**snapshot.config, "exploration_boost": str(boost)})
        blob = encode_snapshot(snapshot)
        await self.snapshots.publish(meta_of(snapshot, blob, version, **fields), blob)
        if hasattr(self, "serving"):
            await until(lambda: self.version == version)
        return snapshot

    @property
    def version(self) -> int:
        served = self.serving.watcher.served
        return 0 if served is None else served.model.version

    async def impressions(self, count: int) -> list[Impression]:
        """Wait for that many impressions on the topic and return them."""
        await until(lambda: len(self.log.records(EVENTS)) >= count)
        events = [decode_event(record.value) for record in self.log.records(EVENTS)]
        return [event for event in events if isinstance(event, Impression)]

    def metric(self, name: str, **labels: str) -> float:
        return self.serving.registry.get_sample_value(name, labels) or 0.0


WorldFactory = Callable[..., Any]
