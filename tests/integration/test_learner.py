"""The learner as a process, on a real Kafka and a real Redis: what a kill and a stop leave behind."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.services import ROOT, ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.events.codec import encode
from libs.events.schema import Event
from libs.events.topics import DEAD_LETTERS, EVENTS, user_key
from services.learner import checkpoint_files
from services.learner.checkpoint_files import Manifest
from services.learner.ledger import read_ledger
from tests.builders import impression, interaction

pytestmark = pytest.mark.stack

PARTITIONS = 4
DEADLINE_S = 60.0


class Stage:
    """One stack, one checkpoint folder, and the learner between them."""

    def __init__(self, stack: LocalStack, folder: Path, **environment: str) -> None:
        self.addresses = stack.addresses
        self.checkpoints = folder / "checkpoints"
        self.environment: Mapping[str, str] = stack.addresses.environment() | {
            "MOARD_LEARNER_CHECKPOINT_PATH": str(self.checkpoints),
            "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.5",
            "MOARD_LEARNER_LEARNING_STARTS": "1",
            "MOARD_LEARNER_CAPACITY": "10000",
            **environment,
        }
        self.learner = ServiceProcess("learner", self.environment, folder)
        self.producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
        self.store = RedisSnapshotStore(stack.addresses.redis_url, "moard")
        self.acknowledged: list[str] = []
        self.versions: list[int] = []
        self.appended = 0

    async def open(self) -> None:
        admin = KafkaTopicAdmin(self.addresses.kafka_bootstrap_servers)
        await admin.ensure(topic_specs(StackSettings(events_partitions=PARTITIONS)))
        await admin.close()
        await self.producer.start()

    async def close(self) -> None:
        await self.producer.stop()
        await self.store.close()

    async def append(self, *events: Event | bytes) -> None:
        records = [
            Outgoing(EVENTS, b"somebody", event)
            if isinstance(event, bytes)
            else Outgoing(EVENTS, user_key(event.user_id), encode(event))
            for event in events
        ]
        assert all(await self.producer.append(records, timeout_s=10))
        self.appended += len(records)
        self.acknowledged += [event.event_id for event in events if not isinstance(event, bytes)]

    async def stream(self, numbers: range) -> None:
        """Let users see and click, a little at a time, and note every version that appears."""
        for number in numbers:
            user_id, impression_id = f"user-{number % 20}", f"i{number}"
            shown = impression(user_id, event_id=impression_id, timestamp_ms=None)
            click = interaction(
                user_id, 1 + number % 3, event_id=f"c{number}", impression_id=impression_id, timestamp_ms=None
            )
            await self.append(shown, click)
            await self.note_version()

    async def note_version(self) -> None:
        current = await self.store.current()
        if current is not None and self.versions[-1:] != [current.version]:
            self.versions.append(current.version)

    async def start(self) -> None:
        self.learner.start()
        await asyncio.to_thread(self.learner.wait_ready)

    async def read(self) -> None:
        """Return once the learner has taken in everything appended."""
        await self.eventually(lambda: self.metric("position", topic=EVENTS) == self.appended, "all to be read")

    def metric(self, name: str, **labels: str) -> float:
        text = httpx.get(f"{self.learner.url}/metrics", timeout=10).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"moard_learner_{name}" and labels.items() <= sample.labels.items()
        )

    async def eventually(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not await asyncio.to_thread(true):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {DEADLINE_S:.0f} s for {what}. {self.learner.log_tail()}")
            await asyncio.sleep(0.05)

    async def committed(self) -> dict[int, int]:
        """Return what lag tools see."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.addresses.kafka_bootstrap_servers, group_id="moard-learner", enable_auto_commit=False
        )
        await consumer.start()
        try:
            found = {number: await consumer.committed(TopicPartition(EVENTS, number)) for number in range(PARTITIONS)}
        finally:
            await consumer.stop()
        return {number: offset or 0 for number, offset in found.items()}


@pytest.fixture
def stage(fresh_stack: Callable[..., LocalStack], tmp_path: Path) -> Stage:
    return Stage(fresh_stack(database=False), tmp_path)


async def test_kills_in_mid_stream_lose_and_double_nothing(stage: Stage) -> None:
    await stage.open()
    try:
        await stage.start()
        for round_number in range(3):
            await stage.stream(range(100 * round_number, 100 * round_number + 60))
            stage.learner.kill()
            await stage.stream(range(100 * round_number + 60, 100 * round_number + 100))
            await stage.start()
        await stage.read()
        await stage.stream(range(300, 320))
        await stage.read()
        assert await asyncio.to_thread(stage.learner.stop) == 0
        await stage.note_version()
    finally:
        stage.learner.kill()
        await stage.close()

    ledger = Counter(read_ledger(stage.checkpoints))
    assert [event_id for event_id in stage.acknowledged if ledger[event_id] != 1] == []
    assert len(ledger) == len(stage.acknowledged) == 640
    assert len(stage.versions) > 3
    assert all(earlier < later for earlier, later in pairwise(stage.versions))


async def test_after_a_stop_nothing_is_read_again(stage: Stage) -> None:
    await stage.open()
    try:
        await stage.start()
        await stage.stream(range(30))
        await stage.append(b"not json")
        await stage.read()
        assert stage.metric("dead_letters_total", reason="json") == 1
        began = time.monotonic()
        assert await asyncio.to_thread(stage.learner.stop) == 0
        assert time.monotonic() - began < 10
        assert sum((await stage.committed()).values()) == stage.appended

        await stage.start()
        await stage.stream(range(30, 31))
        await stage.read()
        assert stage.metric("records_consumed_total", topic=EVENTS) == 2
        assert stage.metric("consumer_lag_records") == 0
        assert await asyncio.to_thread(stage.learner.stop) == 0
        assert await _count(stage, DEAD_LETTERS) == 1
    finally:
        stage.learner.kill()
        await stage.close()

    assert sorted(read_ledger(stage.checkpoints)) == sorted(stage.acknowledged)


async def test_two_learners_of_one_log_have_the_same_weights_bit_for_bit(
    fresh_stack: Callable[..., LocalStack], tmp_path: Path
) -> None:
    stack, whole_rounds = fresh_stack(database=False), 300
    by_log = {
        "MOARD_LEARNER_SCHEDULE": "log",
        "MOARD_LEARNER_ROUND_RECORDS": "50",
        "MOARD_LEARNER_BATCH_SIZE": "16",
    }
    steady = Stage(stack, tmp_path / "steady", MOARD_MODEL_NAME="steady", **by_log)
    killed = Stage(stack, tmp_path / "killed", MOARD_MODEL_NAME="killed", **by_log)

    def has_read(stage: Stage, records: int) -> Callable[[], bool]:
        return lambda: stage.metric("position", topic=EVENTS) >= records

    await steady.open()
    try:
        await steady.start()  # reads what comes as it comes
        await steady.stream(range(155))
        await steady.eventually(has_read(steady, whole_rounds), "all whole rounds to be read")
        await killed.start()  # reads a backlog, in other portions, and is killed on the way
        await killed.eventually(has_read(killed, 150), "half of it to be read")
        killed.learner.kill()
        await killed.start()
        await killed.eventually(has_read(killed, whole_rounds), "all whole rounds to be read")
        for stage in (steady, killed):
            assert await asyncio.to_thread(stage.learner.stop) == 0
    finally:
        steady.learner.kill()
        killed.learner.kill()
        await steady.close()

    (ours, arrays, values), (theirs, other_arrays, other_values) = map(_last_state, (steady, killed))
    assert ours.step == theirs.step == 150 * 12 // 16
    assert ours.offsets == theirs.offsets
    assert values == other_values
    assert arrays.keys() == other_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, other_arrays[name], err_msg=name)


def _last_state(stage: Stage) -> tuple[Manifest, dict[str, np.ndarray], dict[str, Any]]:
    manifest = checkpoint_files.newest_valid(stage.checkpoints)
    assert manifest is not None
    return manifest, *checkpoint_files.read(stage.checkpoints, manifest)


async def _count(stage: Stage, topic: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.addresses.kafka_bootstrap_servers)
    await consumer.start()
    try:
        return int((await consumer.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)])
    finally:
        await consumer.stop()


def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.learner"],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "MOARD_LEARNER_CAPACITY": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 2
    assert "MOARD_LEARNER_CAPACITY" in ended.stderr
    assert "Traceback" not in ended.stderr
