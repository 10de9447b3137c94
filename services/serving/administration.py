"""The model calls outside of a serving worker: for the command line, and for training tasks."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from libs.adapters.metrics import ServingMetrics
from libs.adapters.model_store import SqlModelStore
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.rl.action_space import ActionSpace
from services.serving.last_good import LastGood
from services.serving.model_watcher import ModelWatcher
from services.serving.models import Models
from services.serving.pins import Pins
from services.serving.settings import Settings


@asynccontextmanager
async def administration(settings: Settings) -> AsyncIterator[Models]:
    """Give serving's own administration on the real stores; what it checks, it checks in this process."""
    snapshots = RedisSnapshotStore(settings.redis_url, settings.model_name)
    store = SqlModelStore(settings.database_url, settings.model_name)
    with tempfile.TemporaryDirectory() as aside:  # serving's own last good snapshot is none of ours
        watcher = ModelWatcher(
            snapshots,
            store,
            ActionSpace(settings.vector_size),
            ServingMetrics(CollectorRegistry()),
            LastGood(Path(aside), settings.model_name),
            rule=settings.serving_rule,
            poll_s=settings.serving_snapshot_poll_ms / 1_000,
        )
        pins = Pins(snapshots, store, watcher)
        try:
            await pins.refresh()
            yield Models(snapshots, store, watcher, pins)
        finally:
            await snapshots.close()
            await store.close()
