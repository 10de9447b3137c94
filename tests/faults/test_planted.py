"""Learners that do it the wrong way round, on a real broker: the checker sees what that costs."""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.local import Addresses
from libs.adapters.event_log import KafkaTopicAdmin
from libs.adapters.ports import SnapshotMeta, TopicSpec
from libs.adapters.snapshot_store import RedisSnapshotStore
from tests.faults.checker import DELIVERY, judge, pointers_fit_blobs
from tests.faults.history import LEDGER, LOG, Acknowledged, History, Recorder, write_ids
from tests.faults.watching import watching_pointer
from tests.running_system import eventually

pytestmark = pytest.mark.stack

BATCH = 10
EVENTS = 50
CRASHES = (2, 4)
"""Batches in whose middle the process dies, counted over all its lives."""


class Crash(Exception):
    """The process is gone; what it wrote stays."""


@dataclass
class MiniatureLearner(ABC):
    """Reads ids and keeps them in a file, with offsets committed to the broker beside it.

    ``save`` writes the file; ``commit`` tells the broker. In which order is the subclass's mistake.
    """

    consumer: AIOKafkaConsumer
    partition: TopicPartition
    file: Path
    batches: int = 0
    learned: list[str] = field(default_factory=list)

    async def run(self, end: int) -> None:
        """Go on from what file and broker say, up to the end of the log."""
        self.learned = json.loads(self.file.read_text())["learned"] if self.file.exists() else []
        self.consumer.seek(self.partition, await self.where_to_begin())
        while await self.consumer.position(self.partition) < end:
            found = await self.consumer.getmany(self.partition, timeout_ms=500, max_records=BATCH)
            self.learned += [json.loads(record.value)["event_id"] for record in found.get(self.partition, [])]
            self.batches += 1
            await self.keep()

    async def where_to_begin(self) -> int:
        return await self.consumer.committed(self.partition) or 0

    @abstractmethod
    async def keep(self) -> None: ...

    def crash(self) -> None:
        if self.batches in CRASHES:
            raise Crash

    async def save(self) -> None:
        offset = await self.consumer.position(self.partition)
        self.file.write_text(json.dumps({"learned": self.learned, "offset": offset}))

    async def commit(self) -> None:
        await self.consumer.commit()


class CommitBeforeSave(MiniatureLearner):
    async def keep(self) -> None:
        await self.commit()
        self.crash()
        await self.save()


class SaveThenCommit(MiniatureLearner):
    async def keep(self) -> None:
        await self.save()
        self.crash()
        await self.commit()


class OffsetsInside(SaveThenCommit):
    """As moard does it: the file says where to go on, and the commit is for display."""

    async def where_to_begin(self) -> int:
        return int(json.loads(self.file.read_text())["offset"]) if self.file.exists() else 0


async def record(kind: type[MiniatureLearner], servers: str, folder: Path) -> History:
    """Run a learner through its crashes and return the history, as the harness would have written it."""
    topic, ids = f"planted-{uuid4().hex}", [f"e{number}" for number in range(EVENTS)]
    admin = KafkaTopicAdmin(servers)
    await admin.ensure([TopicSpec(topic, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True) as producer:
        for event_id in ids:
            await producer.send_and_wait(topic, json.dumps({"event_id": event_id}).encode(), partition=0)
    batches, crashes = 0, 0
    while True:
        options = {"group_id": topic, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        async with AIOKafkaConsumer(bootstrap_servers=servers, **options) as consumer:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            learner = kind(consumer, partition, folder / "learned.json", batches)
            try:
                await learner.run(EVENTS)
                break
            except Crash:
                batches, crashes = learner.batches, crashes + 1
    assert crashes == len(CRASHES)
    recorder = Recorder(folder)
    recorder.add(Acknowledged(tuple(ids)))
    recorder.close()
    write_ids(folder / LEDGER, learner.learned)
    write_ids(folder / LOG, ids)
    return History.load(folder)


@pytest.mark.parametrize(
    ("kind", "lost", "doubled"),
    [(CommitBeforeSave, BATCH * len(CRASHES), 0), (SaveThenCommit, 0, BATCH * len(CRASHES)), (OffsetsInside, 0, 0)],
)
async def test_the_wrong_order_is_seen(
    kind: type[MiniatureLearner], lost: int, doubled: int, stack: Addresses, tmp_path: Path
) -> None:
    verdict = judge("planted", 0, await record(kind, stack.kafka_bootstrap_servers, tmp_path), DELIVERY)

    assert (verdict.lost, verdict.doubled) == (lost, doubled)
    told = " ".join(verdict.problems)
    assert ("not in the ledger" in told) == (lost > 0)
    assert ("more than once" in told) == (doubled > 0)


def test_a_pointer_that_differs_from_its_blob_is_seen(stack: Addresses, tmp_path: Path) -> None:
    model = f"planted-{uuid4().hex}"
    recorder = Recorder(tmp_path)
    with watching_pointer(stack.redis_url, recorder, model) as pointer:
        asyncio.run(_publish(stack.redis_url, model, 1, b"first"))
        eventually(lambda: pointer.version == 1, "the first snapshot to be seen")
        _swap_the_pointer_first(stack.redis_url, model, 2, b"second")
        eventually(lambda: pointer.version == 2, "the second snapshot to be seen")
    recorder.close()

    (problem,) = judge("planted", 0, History.load(tmp_path), [pointers_fit_blobs]).problems
    assert problem.startswith("version 2: the pointer says ")


async def _publish(url: str, model: str, version: int, blob: bytes) -> None:
    store = RedisSnapshotStore(url, model)
    await store.publish(_meta(version, blob), blob)
    await store.close()


def _swap_the_pointer_first(url: str, model: str, version: int, blob: bytes) -> None:
    """Do what a careless publisher does that is overtaken: its pointer names a blob that another one wrote."""
    sha256 = hashlib.sha256(blob).hexdigest()
    with redis.Redis.from_url(url) as client:
        client.set(f"snap:{model}:{version}", b"of another publisher")
        client.hset(f"snap:{model}:meta:{version}", mapping={"sha256": sha256, "step": 1, "offsets": "{}"})
        client.hset(f"snap:{model}:current", mapping={"version": version, "epoch": 1, "sha256": sha256})


def _meta(version: int, blob: bytes) -> SnapshotMeta:
    return SnapshotMeta(
        version=version,
        epoch=1,
        step=1,
        sha256=hashlib.sha256(blob).hexdigest(),
        size_bytes=len(blob),
        created_ms=0,
        format=1,
        arch="",
        offsets={},
        trained=(),
        extra={},
    )
