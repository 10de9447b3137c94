"""What ingest shows of the learner's lag, with and without a learner."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.memory import MemoryGroupOffsets, MemoryLog
from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.events.topics import CONTENTS, EVENTS, LEARNER_GROUP
from services.ingest import learner_lag
from services.ingest.learner_lag import LearnerLag
from tests.unit.ingest.stand import until

PARTITIONS = [TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1), TopicPartition(CONTENTS, 0)]


class World:
    def __init__(self) -> None:
        self.log, self.registry = MemoryLog(), CollectorRegistry()
        self.log.create(TopicSpec(EVENTS, partitions=2))
        self.log.create(TopicSpec(CONTENTS, partitions=1))
        offsets = MemoryGroupOffsets(self.log, LEARNER_GROUP)
        self.lag = LearnerLag(offsets, PARTITIONS, IngestMetrics(self.registry))

    def append(self, count: int) -> None:
        for tp in PARTITIONS:
            for _ in range(count):
                assert self.log.append(Outgoing(tp.topic, b"key", b"value", partition=tp.partition))

    def commit(self, offset: int) -> None:
        self.log.group(LEARNER_GROUP).committed = dict.fromkeys(PARTITIONS, offset)

    def shown(self) -> list[float | None]:
        labels = [
            {"topic": tp.topic, "partition": str(tp.partition), "consumergroup": LEARNER_GROUP} for tp in PARTITIONS
        ]
        return [self.registry.get_sample_value("kafka_consumergroup_lag", each) for each in labels]


@pytest.fixture
def world() -> World:
    return World()


async def test_series_are_there_before_the_broker_is(world: World) -> None:
    assert world.shown() == [0, 0, 0]


async def test_lag_is_what_the_last_commit_does_not_contain(world: World) -> None:
    world.append(5)
    await world.lag.ask()
    assert world.shown() == [5, 5, 5]  # nothing was ever committed: all of it waits
    world.commit(3)
    await world.lag.ask()
    assert world.shown() == [2, 2, 2]
    world.append(10)  # and nobody reads
    await world.lag.ask()
    assert world.shown() == [12, 12, 12]


async def test_what_retention_deleted_does_not_wait(world: World) -> None:
    world.append(10)
    world.commit(2)
    world.log.truncate(PARTITIONS[1], 6)
    await world.lag.ask()
    assert world.shown() == [8, 4, 8]


async def test_it_waits_for_a_broker_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_lag, "_EVERY_S", 0.001)
    world.append(5)
    running = asyncio.create_task(world.lag.run())
    await until(lambda: world.shown() == [5, 5, 5], "lag to be shown")
    world.log.available = False
    await asyncio.sleep(0.05)
    assert world.shown() == [5, 5, 5]
    world.log.available = True
    world.append(1)
    await until(lambda: world.shown() == [6, 6, 6], "lag to be asked for again")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
