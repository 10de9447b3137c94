"""Ingest as a process on real Kafka, Redis and MariaDB."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from infra.local import Addresses, LocalStack
from infra.migrations import upgrade
from infra.services import ServiceDied, ServiceProcess
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer
from libs.adapters.ports import Outgoing, Record, TopicPartition
from libs.adapters.settings import StackSettings
from libs.adapters.user_history import RedisUserHistory
from libs.events.codec import decode_content, decode_event, encode
from libs.events.schema import Interaction
from libs.events.topics import CONTENTS, EVENTS, partition_of, user_key

pytestmark = pytest.mark.stack

Start = Callable[..., LocalStack]
Services = Callable[..., ServiceProcess]
DEADLINE_S = 40.0
PARTITIONS = int(StackSettings.model_fields["events_partitions"].default)


def click(user_id: str, content_id: int, **fields: Any) -> dict[str, Any]:
    return {"type": "interaction", "user_id": user_id, "kind": "click", "content_id": content_id, **fields}


async def eventually(ask: Callable[[], Awaitable[Any]], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Return the first truthy answer; fail with ``what`` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not (answer := await ask()):
        assert time.monotonic() < deadline, f"waited {deadline_s:.0f} s for: {what}"
        await asyncio.sleep(0.05)
    return answer


async def read_topic(addresses: Addresses, topic: str, partitions: int) -> list[Record]:
    """Return everything a topic retains."""
    reader = KafkaPartitionReader(addresses.kafka_bootstrap_servers, f"test-{uuid4().hex}")
    await reader.start({TopicPartition(topic, number): -1 for number in range(partitions)})
    try:
        records: list[Record] = []
        ends = await reader.end_offsets()
        while any(reader.positions()[tp] < end for tp, end in ends.items()):
            records += await reader.poll(10_000, 200)
        return records
    finally:
        await reader.stop()


async def visited(history: RedisUserHistory, user_id: str) -> set[int]:
    return {visit.content_id for visit in await history.recent(user_id, 100)}


def started(stack: Addresses, services: Services) -> ServiceProcess:
    upgrade(stack.database_url)
    return services("ingest", stack.environment())


@pytest.fixture
def ingest(stack: Addresses, services: Services) -> ServiceProcess:
    return started(stack, services)


@pytest.fixture
async def client(ingest: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=ingest.url, timeout=20) as opened:
        yield opened


@asynccontextmanager
async def histories(addresses: Addresses) -> AsyncIterator[RedisUserHistory]:
    history = RedisUserHistory(addresses.redis_url)
    try:
        yield history
    finally:
        await history.close()


async def test_events_reach_kafka_in_order_and_histories_before_the_answer(
    stack: Addresses, client: httpx.AsyncClient
) -> None:
    user = f"user-{uuid4().hex}"
    batch = [click(user, number) for number in range(20)] + [click(user, -1)]
    answer = await client.post("/api/v1/events", json={"events": batch})
    assert answer.status_code == 202
    async with histories(stack) as history:
        assert await visited(history, user) == set(range(20))  # without waiting
    body = answer.json()
    assert [error["index"] for error in body["errors"]] == [20]
    records = [record for record in await read_topic(stack, EVENTS, PARTITIONS) if record.key == user_key(user)]
    assert [decode_event(record.value).event_id for record in records] == body["event_ids"]
    assert {record.partition for record in records} == {partition_of(user_key(user), PARTITIONS)}


async def test_direct_producers_are_projected(stack: Addresses, client: httpx.AsyncClient) -> None:
    user, producer = f"user-{uuid4().hex}", KafkaProducer(stack.kafka_bootstrap_servers)
    event = Interaction(event_id=uuid4().hex, user_id=user, kind="like", content_id=5)
    appended = await producer.append([Outgoing(EVENTS, user_key(user), encode(event))] * 2, timeout_s=20)
    await producer.stop()
    assert all(appended)
    async with histories(stack) as history:
        await eventually(lambda: visited(history, user), "the projector to write the visit")
        assert len(await history.recent(user, 10)) == 1


async def test_contents_reach_the_table_and_the_topic_and_survive_a_restart(
    stack: Addresses, client: httpx.AsyncClient, ingest: ServiceProcess
) -> None:
    content_id = uuid4().int >> 66
    answer = await client.put(f"/api/v1/contents/{content_id}", json={"title": "T", "embedding": [0.1] * 300})
    assert answer.status_code == 200

    async def announced() -> list[Record]:
        records = await read_topic(stack, CONTENTS, 1)
        return [record for record in records if record.key == str(content_id).encode()]

    assert len(await announced()) == 1
    assert decode_content((await announced())[0].value).embedding == (0.1,) * 300
    assert ingest.stop() == 0
    ingest.start()
    ingest.wait_ready()
    marker = content_id + 1
    await insert_legacy_row(stack, marker)
    await eventually(
        lambda: keys_with(stack, str(marker).encode()), "the follower to announce the row that was written past moard"
    )
    assert len(await announced()) == 1  # it compared the whole table, and this content was not news


async def insert_legacy_row(stack: Addresses, content_id: int) -> None:
    engine = create_async_engine(stack.database_url)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO moard_contents SELECT :id, title, description, embedding, vector_version, kind, hidden, "
                "published_at_ms, updated_at_ms FROM moard_contents LIMIT 1"
            ),
            {"id": content_id},
        )
    await engine.dispose()


async def keys_with(stack: Addresses, key: bytes) -> list[Record]:
    return [record for record in await read_topic(stack, CONTENTS, 1) if record.key == key]


async def test_broker_killed_is_503_and_then_it_recovers(fresh_stack: Start, services: Services) -> None:
    stack = fresh_stack(database=False)
    ingest = services("ingest", stack.addresses.environment() | {"MOARD_INGEST_APPEND_DEADLINE_MS": "1000"})
    async with httpx.AsyncClient(base_url=ingest.url, timeout=20) as client:
        first = await client.post("/api/v1/events", json=click("ann", 1))
        assert first.status_code == 202
        stack.kafka.kill()
        lost = await client.post("/api/v1/events", json={"events": [click("ann", 2), click("ann", 3, event_id="mine")]})
        assert lost.status_code == 503
        assert lost.headers["retry-after"]
        ids = lost.json()["event_ids"]
        assert ids[1] == "mine"
        assert (await client.get("/readyz")).status_code == 503
        stack.kafka.start()

        async def retried() -> bool:
            events = [click("ann", 2, event_id=ids[0]), click("ann", 3, event_id=ids[1])]
            return (await client.post("/api/v1/events", json={"events": events})).status_code == 202

        await eventually(retried, "the retry to be acknowledged")
        assert (await client.get("/readyz")).status_code == 200
    logged = {decode_event(record.value).event_id for record in await read_topic(stack.addresses, EVENTS, PARTITIONS)}
    assert logged == {first.json()["event_ids"][0], *ids}
    async with histories(stack.addresses) as history:
        assert await visited(history, "ann") == {1, 2, 3}
        assert len(await history.recent("ann", 10)) == 3


async def test_histories_are_rebuilt_when_redis_comes_back_empty(fresh_stack: Start, services: Services) -> None:
    stack = fresh_stack(database=False)
    ingest = services("ingest", stack.addresses.environment())
    users = [f"user-{number}" for number in range(200)]
    async with httpx.AsyncClient(base_url=ingest.url, timeout=20) as client, histories(stack.addresses) as history:
        for start in range(0, 5_000, 500):
            batch = [click(users[number % 200], number) for number in range(start, start + 500)]
            assert (await client.post("/api/v1/events", json={"events": batch})).status_code == 202

        async def written() -> bool:  # what Redis did not take in time, the projector writes
            return all([len(await visited(history, user)) == 25 for user in users])

        await eventually(written, "every history to be there")
        before = {user: await visited(history, user) for user in users}

        stack.redis.kill()
        during = await client.post("/api/v1/events", json=click("user-0", 9_999))
        assert during.status_code == 202  # the history is the projector's now
        stack.redis.start()

        async def rebuilt() -> bool:
            return await visited(history, "user-0") == before["user-0"] | {9_999} and all(
                [await visited(history, user) == before[user] for user in users[1:]]
            )

        await eventually(rebuilt, "every history to be back", deadline_s=20)


async def test_sigterm_drains_and_unmigrated_or_open_is_refused(fresh_stack: Start, services: Services) -> None:
    stack = fresh_stack()
    environment = stack.addresses.environment()
    with pytest.raises(ServiceDied, match="moard migrate"):
        services("ingest", environment)
    with pytest.raises(ServiceDied, match="MOARD_INGEST_HOST"):
        services("ingest", environment | {"MOARD_INGEST_HOST": "0.0.0.0"})
    await asyncio.to_thread(upgrade, stack.addresses.database_url)
    ingest = services("ingest", environment)
    async with httpx.AsyncClient(base_url=ingest.url, timeout=20) as client:
        posts = [client.post("/api/v1/events", json=click("ann", number)) for number in range(50)]
        answers = [answer.status_code for answer in await asyncio.gather(*posts)]
    assert answers == [202] * 50
    assert ingest.stop() == 0
    assert len(await read_topic(stack.addresses, EVENTS, PARTITIONS)) == 50
