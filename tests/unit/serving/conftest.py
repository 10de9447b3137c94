"""Serving over the in-memory twins, reached through its ASGI application."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.kafka_admin import topic_specs
from libs.adapters.memory import MemoryPartitionReader, MemoryProducer, MemoryTopicAdmin
from services.serving.app import create_app
from services.serving.assembly import Ports, Serving
from services.serving.settings import Settings
from tests.unit.serving.world import VECTOR, World, WorldFactory, until


@pytest.fixture
def world(tmp_path: Path) -> WorldFactory:
    """Return a factory of running worlds: ``async with world(store=…, serving_rule="p") as w``."""

    @asynccontextmanager
    async def running(
        before: Callable[[World], Awaitable[None]] | None = None,
        wait_ready: bool = True,
        expect_crash: bool = False,
        **given: Any,
    ) -> AsyncIterator[World]:
        replaced = ("log", "snapshots", "history", "models", "store", "texts", "tasks", "legacy", "keeper", "board")
        parts = {name: given.pop(name) for name in replaced if name in given}
        keys = given.pop("keys", None)
        values: dict[str, Any] = {
            "vector_size": VECTOR,
            "state_path": str(tmp_path / "state"),
            "_env_file": None,
        } | given
        w = World(Settings(**values), **parts)
        for spec in topic_specs(w.settings):
            w.log.create(spec)
        if before is not None:
            await before(w)
        ports = Ports(
            topics=MemoryTopicAdmin(w.log),
            producer=MemoryProducer(w.log),
            reader=lambda: MemoryPartitionReader(w.log, "serving"),
            snapshots=w.snapshots,
            models=w.models,
            history=w.history,
            store=w.store,
            texts=w.texts,
            keys=keys,
            tasks=w.tasks,
            legacy=w.legacy,
            keeper=w.keeper,
            board=w.board,
        )
        serving = Serving(w.settings, ports, CollectorRegistry(), np.random.default_rng(7))
        transport = httpx.ASGITransport(create_app(serving))
        async with (
            serving.running(w.crashes.append),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            w.serving, w.client = serving, client
            if wait_ready:
                await until(lambda: not serving.waiting_for())
            yield w
        assert bool(w.crashes) == expect_crash

    return running
