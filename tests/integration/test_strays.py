"""A client that partitions by CRC32, on a real Kafka."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.events.codec import encode
from libs.events.topics import EVENTS, partition_of, user_key
from services.learner.ledger import read_ledger
from tests.builders import impression, interaction

pytestmark = pytest.mark.stack

PARTITIONS = 4
SESSIONS = 100
DEADLINE_S = 90.0


def crc32_partition(key: bytes) -> int:
    """Return where librdkafka's default partitioner puts a key."""
    return crc32(key) % PARTITIONS


def session(number: int) -> list[Outgoing]:
    """Return an impression and a click as that client sends them."""
    user_id, impression_id = f"user-{number % 20}", f"i{number}"
    shown = impression(user_id, (1, 2, 3), event_id=impression_id, timestamp_ms=None)
    click = interaction(user_id, 1, event_id=f"c{number}", impression_id=impression_id, timestamp_ms=None)
    key = user_key(user_id)
    return [Outgoing(EVENTS, key, encode(event), partition=crc32_partition(key)) for event in (shown, click)]


def counts(learner: ServiceProcess) -> Counter[str]:
    """Return the learner's counters by name and last label."""
    text = httpx.get(f"{learner.url}/metrics", timeout=10).text
    return Counter(
        {
            " ".join((sample.name.removeprefix("moard_learner_"), *sample.labels.values())): int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("moard_learner_") and family.type == "counter"
        }
    )


async def test_a_client_with_another_partitioner_loses_nothing_but_time(
    fresh_stack: Callable[..., LocalStack], tmp_path: Path
) -> None:
    stack = fresh_stack(database=False)
    admin = KafkaTopicAdmin(stack.addresses.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(StackSettings(events_partitions=PARTITIONS)))
    await admin.close()
    producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    records = [record for number in range(SESSIONS) for record in session(number)]
    strayed = sum(record.partition != partition_of(record.key or b"", PARTITIONS) for record in records)
    assert strayed > len(records) // 2
    checkpoints = tmp_path / "checkpoints"
    settings = {"MOARD_LEARNER_CHECKPOINT_PATH": str(checkpoints), "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.5"}
    learner = ServiceProcess("learner", stack.addresses.environment() | settings, tmp_path)
    deadline = time.monotonic() + DEADLINE_S
    try:
        assert all(await producer.append(records[: len(records) // 2], 10))
        await asyncio.to_thread(learner.start)
        await asyncio.to_thread(learner.wait_ready)
        while not (await asyncio.to_thread(counts, learner))["misrouted_total sent_on"]:
            assert time.monotonic() < deadline, learner.log_tail()
        learner.kill()  # what it has sent on it may send on again
        assert all(await producer.append(records[len(records) // 2 :], 10))
        await asyncio.to_thread(learner.start)
        await asyncio.to_thread(learner.wait_ready)
        while len(await asyncio.to_thread(lambda: list(read_ledger(checkpoints)))) < len(records):
            assert time.monotonic() < deadline, learner.log_tail()
            await asyncio.sleep(0.2)
        assert await asyncio.to_thread(learner.stop) == 0
    finally:
        learner.kill()
        await producer.stop()
    ledger = Counter(read_ledger(checkpoints))
    assert ledger == Counter({f"{kind}{number}": 1 for kind in "ic" for number in range(SESSIONS)})
