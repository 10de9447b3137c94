"""Kafka's own tool shows the lag that moard's metrics show, caught up and behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer
from libs.adapters.ports import Outgoing
from libs.events.codec import encode
from libs.events.topics import EVENTS, user_key
from services.ingest.projector import GROUP as PROJECTOR
from services.learner.log_watch import GROUP_ID as LEARNER
from tests.builders import impression

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

DEADLINE_S = 90.0
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
ROUND = 50
Lag = dict[tuple[str, str], int]


def told_by_kafka(stack: LocalStack) -> dict[str, Lag]:
    """Return the column LAG of both groups by topic and partition."""
    groups = ["--group", LEARNER, "--group", PROJECTOR]
    address = stack.addresses.kafka_bootstrap_servers
    printed = stack.kafka.run_tool(TOOL, "--bootstrap-server", address, "--describe", *groups)
    rows = [line.split() for line in printed.splitlines()]
    header = next((row for row in rows if row[:1] == ["GROUP"]), [])
    told: dict[str, Lag] = {LEARNER: {}, PROJECTOR: {}}
    for row in (dict(zip(header, row, strict=False)) for row in rows if row[:1] in ([LEARNER], [PROJECTOR])):
        told[row["GROUP"]][row["TOPIC"], row["PARTITION"]] = int(row["LAG"]) if row["LAG"].isdecimal() else -1
    return told


def told_by_moard(service: ServiceProcess, name: str) -> Lag:
    """Return a gauge by topic and partition."""
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    return {
        (sample.labels["topic"], sample.labels["partition"]): int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def eventually(ask: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(ask):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s for: {what}"
        await asyncio.sleep(0.2)


@pytest.fixture
async def append(fresh_stack: Callable[..., LocalStack]) -> Callable[[LocalStack, int], Awaitable[None]]:
    async def append(stack: LocalStack, count: int) -> None:
        producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
        await producer.start()
        shown = [impression(f"user-{number % 30}", timestamp_ms=None) for number in range(count)]
        assert all(
            await producer.append([Outgoing(EVENTS, user_key(each.user_id), encode(each)) for each in shown], 20)
        )
        await producer.stop()

    return append


async def test_kafkas_tool_and_the_metrics_agree(
    fresh_stack: Callable[..., LocalStack],
    services: Callable[..., ServiceProcess],
    append: Callable[[LocalStack, int], Awaitable[None]],
    tmp_path: Path,
) -> None:
    stack = fresh_stack(database=False)
    await asyncio.to_thread(upgrade, stack.addresses.database_url)
    environment = stack.addresses.environment() | {
        "MOARD_LEARNER_CHECKPOINT_PATH": str(tmp_path / "checkpoints"),
        "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.5",
        "MOARD_LEARNER_CAPACITY": "1000",
        "MOARD_LEARNER_SCHEDULE": "log",  # what is beyond the last whole round waits
        "MOARD_LEARNER_ROUND_RECORDS": str(ROUND),
        "MOARD_LEARNER_LEARNING_STARTS": "900",
    }
    ingest = await asyncio.to_thread(services, "ingest", environment)
    learner = await asyncio.to_thread(services, "learner", environment)

    def learner_lag() -> Lag:
        return told_by_moard(learner, "moard_learner_consumer_lag_records")

    def projector_lag() -> Lag:
        return told_by_moard(ingest, "moard_projector_consumer_lag_records")

    async def agreed(what: str) -> tuple[int, int]:
        told: dict[str, Lag] = {}

        def agree() -> bool:
            told.update(told_by_kafka(stack))
            return told == {LEARNER: learner_lag(), PROJECTOR: projector_lag()}

        await eventually(agree, f"Kafka's tool and the metrics to agree, {what}")
        return sum(told[LEARNER].values()), sum(told[PROJECTOR].values())

    await append(stack, 3 * ROUND)
    await eventually(lambda: sum(learner_lag().values()) == sum(projector_lag().values()) == 0, "no lag")
    assert await agreed("caught up") == (0, 0)

    await asyncio.to_thread(stack.redis.kill)  # the projector cannot write
    await append(stack, ROUND + 20)
    await eventually(lambda: sum(learner_lag().values()) == 20, "all but a part of a round to be learned")
    await eventually(lambda: sum(projector_lag().values()) == ROUND + 20, "the projector to see what waits")
    assert await agreed("with records waiting") == (20, ROUND + 20)

    await asyncio.to_thread(learner.stop)  # its group keeps what the last checkpoint holds
    await append(stack, 5)
    told = await asyncio.to_thread(told_by_kafka, stack)
    assert sum(told[LEARNER].values()) == 25
    await asyncio.to_thread(stack.redis.start)
