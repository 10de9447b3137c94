"""The whole of ingest over the twins: HTTP, projector and follower together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from libs.adapters.memory import (
    MemoryContentStore,
    MemoryGroupOffsets,
    MemoryGroupReader,
    MemoryLog,
    MemoryPartitionReader,
    MemoryProducer,
    MemoryTopicAdmin,
    MemoryUserHistory,
)
from libs.adapters.ports import StoredContent, TopicSpec
from libs.errors import RefusedStart
from libs.events.topics import CONTENTS, EVENTS, HISTORY_GROUP, LEARNER_GROUP
from services.ingest import catalogue
from services.ingest.assembly import Ingest, Ports
from tests.unit.ingest.stand import settings_of, until

CLICK = {"type": "interaction", "user_id": "ann", "kind": "click", "content_id": 7}


@asynccontextmanager
async def running(
    log: MemoryLog, crashed: Callable[[BaseException], None] | None = None, **ports: Any
) -> AsyncIterator[httpx.AsyncClient]:
    built = Ports(
        topics=MemoryTopicAdmin(log),
        producer=MemoryProducer(log),
        history_reader=MemoryGroupReader(log, HISTORY_GROUP, EVENTS),
        replay_reader=lambda: MemoryPartitionReader(log, HISTORY_GROUP),
        catalogue_reader=MemoryPartitionReader(log, catalogue.GROUP),
        learner_offsets=MemoryGroupOffsets(log, LEARNER_GROUP),
        history=MemoryUserHistory(),
        contents=MemoryContentStore([StoredContent(5, title="Five")]),
    )
    ingest = Ingest(settings_of(), replace(built, **ports), CollectorRegistry())
    app = ingest.app(crashed)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://i") as client:
        yield client


async def becomes_ready(client: httpx.AsyncClient, attempts: int = 1_000) -> None:
    for _ in range(attempts):
        if (await client.get("/readyz")).status_code == 200:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("ingest does not become ready")


async def test_it_prepares_everything_and_works() -> None:
    log, history = MemoryLog(), MemoryUserHistory()
    migrated: list[int] = []
    async with running(log, history=history, migrate=lambda: migrated.append(1)) as client:
        await becomes_ready(client)
        assert migrated == [1]
        assert (await client.post("/api/v1/events", json=CLICK)).status_code == 202
        assert [visit.content_id for visit in await history.recent("ann", 5)] == [7]
        await until(lambda: log.records(CONTENTS), "the table's row is announced")
        await until(lambda: sum(log.group(HISTORY_GROUP).committed.values()) == 1, "the event is projected")
    assert log.group(HISTORY_GROUP).members == []


async def test_the_projector_does_not_repeat_what_ingest_wrote() -> None:
    log, history = MemoryLog(), MemoryUserHistory()
    async with running(log, history=history) as client:
        await becomes_ready(client)
        await until(lambda: history._generation and "-" not in history._generation, "the first rebuild to be over")
        assert (await client.post("/api/v1/events", json=CLICK)).status_code == 202
        await until(lambda: sum(log.group(HISTORY_GROUP).committed.values()) == 1, "the event is committed")
        assert "moard_projector_visits_total 0.0" in (await client.get("/metrics")).text


async def test_it_starts_without_a_broker_answers_503_and_recovers() -> None:
    log = MemoryLog()
    log.available = False
    async with running(log) as client:
        assert (await client.get("/readyz")).json()["waiting_for"][-1] == "broker"
        assert (await client.post("/api/v1/events", json=CLICK)).status_code == 503
        log.available = True
        await becomes_ready(client)
        assert (await client.post("/api/v1/events", json=CLICK)).status_code == 202


async def test_it_starts_without_a_database_and_takes_events() -> None:
    log, contents = MemoryLog(), MemoryContentStore()
    contents.available = False
    async with running(log, contents=contents) as client:
        await becomes_ready(client)
        assert (await client.post("/api/v1/events", json=CLICK)).status_code == 202
        assert (await client.put("/api/v1/contents/1", json={"title": "T"})).status_code == 503
        contents.available = True
        assert (await client.put("/api/v1/contents/1", json={"title": "T"})).status_code == 200


async def test_a_background_task_that_fails_is_reported() -> None:
    class Unmigrated(MemoryContentStore):
        async def start(self) -> None:
            raise RefusedStart("run moard migrate")

    reported: list[BaseException] = []
    async with running(MemoryLog(), reported.append, contents=Unmigrated()):
        await until(lambda: reported, "the crash is reported")
    assert isinstance(reported[0], RefusedStart)


async def test_a_topic_with_other_partitions_is_refused() -> None:
    log = MemoryLog()
    log.create(TopicSpec(EVENTS, 2))
    reported: list[BaseException] = []
    async with running(log, reported.append):
        await until(lambda: reported, "the refusal is reported")
    assert "MOARD_EVENTS_PARTITIONS" in str(reported[0])
