"""The history projector over the twins."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryGroupReader, MemoryLog, MemoryPartitionReader, MemoryUserHistory
from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import Outgoing, Visit
from libs.events.codec import encode
from libs.events.schema import Logged
from libs.events.topics import EVENTS, HISTORY_GROUP, user_key
from services.ingest import projector as projector_module
from services.ingest.own_writes import OwnWrites
from services.ingest.projector import Projector
from tests.builders import NOW_MS, erasure, impression, interaction
from tests.unit.ingest.stand import settings_of, until


class World:
    """A log, a store, and projectors between them."""

    def __init__(self) -> None:
        self.settings = settings_of()
        self.log = MemoryLog(clock_ms=lambda: NOW_MS)
        for spec in topic_specs(self.settings):
            self.log.create(spec)
        self.history = MemoryUserHistory()
        self.registry = CollectorRegistry()
        self.metrics = IngestMetrics(self.registry)
        self.own_writes = OwnWrites()
        self.replays = 0

    def append(self, *events: Logged | bytes, key: bytes = b"user-1") -> None:
        for event in events:
            value = event if isinstance(event, bytes) else encode(event)
            assert self.log.append(
                Outgoing(EVENTS, key if isinstance(event, bytes) else user_key(event.user_id), value)
            )

    def _replay_reader(self) -> MemoryPartitionReader:
        self.replays += 1
        return MemoryPartitionReader(self.log, HISTORY_GROUP)

    async def projector(self) -> Projector:
        reader = MemoryGroupReader(self.log, HISTORY_GROUP, EVENTS)
        await reader.start()
        return Projector(
            reader,
            self._replay_reader,
            self.history,
            self.own_writes,
            self.metrics,
            partitions=self.settings.events_partitions,
            min_dwell_ms=self.settings.history_min_dwell_ms,
            max_records=10,
        )

    def lag(self, name: str = "moard_projector_consumer_lag_records") -> float:
        return sum(
            sample.value for metric in self.registry.collect() if metric.name == name for sample in metric.samples
        )

    def committed(self) -> int:
        return sum(self.log.group(HISTORY_GROUP).committed.values())

    async def contents(self, user_id: str = "user-1") -> set[int]:
        return {visit.content_id for visit in await self.history.recent(user_id, 100)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(projector_module, "_POLL_MS", 20)  # how long a turn waits for records that do not come
    return World()


async def settle(projector: Projector, world: World) -> None:
    """Take turns until the log is read; a turn after that would wait for a second."""
    for _ in range(100):
        await projector.turn()
        if world.lag() == 0:
            return
    raise AssertionError("the projector does not come to the end of the log")


async def test_it_writes_what_direct_producers_appended(world: World) -> None:
    world.append(
        interaction(content_id=1),
        interaction(content_id=2, kind="view", dwell_ms=60_000),
        interaction(content_id=3, kind="view", dwell_ms=10),
        interaction(content_id=4, kind="hide"),
        impression("user-2"),
    )
    await settle(await world.projector(), world)
    assert await world.contents() == {1, 2}
    assert await world.history.seen("user-2")
    assert world.committed() == 5


async def test_lag_is_mirrored_and_a_partition_that_another_one_took_is_not_behind_here(world: World) -> None:
    first = await world.projector()
    await settle(first, world)
    world.append(*(interaction(f"user-{number}", content_id=1) for number in range(200)))
    await first.turn()
    lags = {name: world.lag(name) for name in ("moard_projector_consumer_lag_records", "kafka_consumergroup_lag")}
    assert set(lags.values()) == {190}

    other = MemoryGroupReader(world.log, HISTORY_GROUP, EVENTS)  # takes half of the partitions, and reads nothing
    await other.start()
    await settle(first, world)
    assert world.lag("kafka_consumergroup_lag") == 0
    assert world.registry.get_sample_value("moard_projector_rebalances_total") == 2


async def test_what_is_read_and_not_written_is_behind_still(world: World) -> None:
    projector = await world.projector()
    await projector.turn()
    world.append(*(interaction(content_id=number) for number in range(7)))
    world.history.available = False
    turning = asyncio.create_task(projector.turn())
    for _ in range(200):
        await asyncio.sleep(0.01)
        if world.lag() == 7:
            break
    assert (world.lag(), world.committed()) == (7, 0)
    world.history.available = True
    await turning
    await settle(projector, world)
    assert (world.lag(), world.committed()) == (0, 7)


async def test_undecodable_records_are_passed_over(world: World) -> None:
    world.append(b"{", b"", b'{"type":"interaction"}', interaction(content_id=1), b"[" * 10_000)
    await settle(await world.projector(), world)
    assert await world.contents() == {1}
    assert world.committed() == 5


async def test_an_event_without_an_id_is_written_once(world: World) -> None:
    world.append(b'{"type":"interaction","schema":1,"user_id":"user-1","kind":"click","content_id":5}')
    await settle(await world.projector(), world)
    world.history._generation = None  # everything is replayed
    await (await world.projector()).turn()
    assert len(await world.history.recent("user-1", 10)) == 1


async def test_redelivery_and_ingests_own_write_change_nothing(world: World) -> None:
    world.append(*(event := [interaction(content_id=1), interaction(content_id=2)]), *event)
    await settle(await world.projector(), world)
    world.log.group(HISTORY_GROUP).committed.clear()  # the commit was lost
    await settle(await world.projector(), world)
    assert len(await world.history.recent("user-1", 10)) == 2
    assert await world.history.consumptions([1, 2]) == [1, 1]


async def test_a_store_that_came_back_empty_is_rebuilt_from_retention(world: World) -> None:
    world.append(*(interaction(f"user-{number}", content_id=number) for number in range(50)))
    projector = await world.projector()
    await settle(projector, world)
    first = await world.history.generation()
    world.history.clear()
    world.append(interaction("user-0", content_id=99))
    await settle(projector, world)
    assert await world.contents("user-0") == {0, 99}
    assert all([await world.contents(f"user-{number}") == {number} for number in range(1, 50)])
    assert await world.history.generation() not in (None, first)
    assert world.registry.get_sample_value("moard_projector_rebuilds_total") == 2  # the first start was one


async def test_a_rebuild_that_died_in_the_middle_is_done_again(world: World) -> None:
    world.append(*(interaction(f"user-{number}", content_id=number) for number in range(50)))
    projector = await world.projector()
    await settle(projector, world)
    world.history.clear()
    append = world.history.append

    async def dies(visits: Any) -> None:
        world.history.append = append  # type: ignore[method-assign]
        raise RuntimeError("killed")

    world.history.append = dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="killed"):
        await projector.turn()
    assert await world.history.generation() is not None  # it had begun
    await settle(await world.projector(), world)
    assert all([await world.contents(f"user-{number}") == {number} for number in range(50)])


async def test_a_store_lost_again_during_the_rebuild_gets_another_one(world: World) -> None:
    world.append(*(interaction(f"user-{number}", content_id=number) for number in range(50)))
    projector = await world.projector()
    await settle(projector, world)
    world.history.clear()
    append = world.history.append
    calls = 0

    async def loses(visits: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            world.history.clear()
        await append(visits)

    world.history.append = loses  # type: ignore[method-assign]
    await projector.turn()
    await projector.turn()
    assert all([await world.contents(f"user-{number}") == {number} for number in range(50)])


async def test_only_one_of_two_projectors_has_to_finish_the_rebuild(world: World) -> None:
    world.append(*(interaction(f"user-{number}", content_id=number) for number in range(20)))
    first, second = await world.projector(), await world.projector()
    await asyncio.gather(first.turn(), second.turn())
    assert not str(await world.history.generation()).startswith("rebuilding-")
    replays = world.replays
    await asyncio.gather(first.turn(), second.turn())
    assert world.replays == replays
    assert all([await world.contents(f"user-{number}") == {number} for number in range(20)])


async def test_what_ingest_wrote_is_written_again_by_a_rebuild_only(world: World) -> None:
    projector = await world.projector()
    await settle(projector, world)
    event = interaction(content_id=1)
    world.own_writes.settle(world.own_writes.claim([encode(event)]), written=True)
    world.append(event, interaction(content_id=2))
    await settle(projector, world)
    assert await world.contents() == {2}  # ingest would have written the other one
    world.history.clear()
    await projector.turn()
    assert await world.contents() == {1, 2}


async def test_an_outage_of_the_store_loses_nothing_and_commits_nothing(world: World) -> None:
    projector = await world.projector()
    await settle(projector, world)
    world.history.available = False
    world.append(interaction(content_id=1))
    turn = asyncio.create_task(projector.turn())
    await asyncio.sleep(0.15)  # the first attempt has failed by now
    assert not turn.done()
    assert world.committed() == 0
    world.history.available = True
    await asyncio.wait_for(turn, 5)
    assert await world.contents() == {1}
    assert world.committed() == 1


async def test_run_waits_for_the_broker_and_ends_when_cancelled(world: World) -> None:
    world.log.available = False
    reader = MemoryGroupReader(world.log, HISTORY_GROUP, EVENTS)
    projector = Projector(
        reader,
        world._replay_reader,
        world.history,
        world.own_writes,
        world.metrics,
        partitions=world.settings.events_partitions,
        min_dwell_ms=0,
        max_records=10,
    )
    task = asyncio.create_task(projector.run())
    await asyncio.sleep(0.15)
    world.log.available = True
    world.append(interaction(content_id=1))
    await until(lambda: world.committed() == 1, "the event is projected")
    assert world.log.group(HISTORY_GROUP).members == [reader]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.log.group(HISTORY_GROUP).members == []


async def test_an_erasure_empties_the_history_and_a_rebuild_brings_nothing_back(world: World) -> None:
    world.append(
        interaction(content_id=1),
        interaction(content_id=2, kind="hide"),
        interaction("user-2", content_id=3),
        erasure(),
        interaction(content_id=4, timestamp_ms=NOW_MS - 5),  # it happened before: a phone that was offline
    )
    projector = await world.projector()
    for _ in range(2):
        await settle(projector, world)
        assert await world.contents() == set()
        assert await world.contents("user-2") == {3}
        world.history.clear()
    assert world.replays == 2


async def test_what_ingest_writes_late_is_refused_after_an_erasure(world: World) -> None:
    late = interaction(content_id=1)
    world.append(late, erasure())
    await settle(await world.projector(), world)

    await world.history.append([("user-1", Visit(late.event_id, 1, NOW_MS))])
    await world.history.append([("user-1", Visit("new", 2, NOW_MS + 1))])

    assert await world.contents() == {2}
