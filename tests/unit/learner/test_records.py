"""Whole rounds of the merged log: when one is there, what waits for it, and how much of that is kept in memory."""

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import StoreUnavailable
from libs.events.codec import encode
from libs.events.topics import CONTENTS, EVENTS, user_key
from services.learner.intake import EventIntake
from services.learner.log_watch import LogWatch, Stalled
from services.learner.records import MergedRecords
from tests.builders import NOW_MS, interaction

E0, E1, C0 = TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1), TopicPartition(CONTENTS, 0)
USERS = ("user-1", "user-0")  # of partitions 0 and 1
ROUND = 4
MAX_RECORDS = 5


class Stand:
    """A learner's intake on a log whose clock, and whose end, the test moves."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.log = MemoryLog(clock_ms=lambda: self.now_ms)
        for name, partitions in ((EVENTS, 2), (CONTENTS, 1)):
            self.log.create(TopicSpec(name, partitions))
        self.registry = CollectorRegistry()
        metrics = LearnerMetrics(self.registry, [E0, E1, C0])
        reader = MemoryPartitionReader(self.log, "moard-learner")
        self.records = MergedRecords(reader, ROUND)
        self.intake = EventIntake(
            reader,
            self.records,
            MemoryProducer(self.log),
            metrics,
            clock_ms=lambda: self.now_ms,
            vector_size=2,
            idle_poll_ms=1,
            partitions=2,
        )
        self.watch = LogWatch(reader, self.intake, metrics, watchdog_s=60.0, clock_ms=lambda: self.now_ms)
        self.batches = self.intake.batches(MAX_RECORDS)

    def append(self, tp: TopicPartition, count: int = 1) -> None:
        user_id = USERS[tp.partition]
        for _ in range(count):
            self.log.append(Outgoing(tp.topic, user_key(user_id), encode(interaction(user_id)), partition=tp.partition))

    async def turns(self, count: int = 20) -> list[int]:
        """Return how many events each of the next turns of the loop has to work on."""
        return [len((await anext(self.batches)).arrivals) for _ in range(count)]


@pytest.fixture
async def stand() -> Stand:
    stand = Stand()
    await stand.intake.start({E0: -1, E1: -1, C0: -1})
    return stand


async def test_a_round_comes_whole_when_nothing_can_precede_any_of_it(stand: Stand) -> None:
    stand.append(E0, ROUND + 1)
    assert set(await stand.turns()) == {0}  # the other partitions may hold something earlier
    stand.now_ms += 10_000
    await stand.watch.ask()

    batch = await anext(stand.batches)

    assert len(batch.arrivals) == ROUND
    assert stand.intake.positions() == {E0: ROUND, E1: 0, C0: 0}
    assert stand.intake.pending == 1
    assert batch.idle_ms == {0: NOW_MS, 1: NOW_MS}  # time is that of the last record, whatever the clock says


async def test_records_that_wait_for_their_round_are_no_outage_and_others_are(stand: Stand) -> None:
    stand.append(E0, ROUND - 1)
    await stand.turns()
    for _ in range(3):
        stand.now_ms += 100_000
        await stand.watch.ask()  # does not raise
    stand.append(E0)  # and nobody reads it
    stand.now_ms += 100_000
    with pytest.raises(Stalled, match=f"{ROUND} records wait"):
        await stand.watch.ask()


async def test_lag_is_as_old_as_the_brokers_last_answer(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> dict[TopicPartition, int]:
        raise StoreUnavailable("no broker")

    async def age_s() -> float | None:
        stand.now_ms += 5_000
        await stand.watch.ask()
        return stand.registry.get_sample_value("moard_learner_log_ends_age_seconds")

    assert await age_s() == 0
    with monkeypatch.context() as outage:
        outage.setattr(MemoryPartitionReader, "end_offsets", away)
        assert [await age_s(), await age_s()] == [5, 10]
    assert await age_s() == 0


async def test_a_partition_far_ahead_is_not_read_on_until_the_others_have_caught_up(stand: Stand) -> None:
    stand.append(E0, 500)
    assert set(await stand.turns()) == {0}
    assert stand.intake.pending <= 2 * MAX_RECORDS
    stand.now_ms += 10_000
    stand.append(E1)
    await stand.watch.ask()

    found = await stand.turns(300)

    assert sum(found) == 500
    assert stand.intake.pending == 1


async def test_a_log_that_ends_is_taken_to_its_last_record_in_a_last_short_round(stand: Stand) -> None:
    stand.append(E0, 3)
    stand.now_ms += 1_000
    stand.append(E1, 4)
    stand.append(E0, 2)
    reader = MemoryPartitionReader(stand.log, "again")
    records = MergedRecords(reader, ROUND, until={E0: 5, E1: 4, C0: 0})
    await records.start({E0: -1, E1: -1, C0: -1})
    rounds = []
    while not records.finished:
        rounds.append([(each.partition, each.offset) for each in await records.take(MAX_RECORDS, 1)])
    assert [found for found in rounds if found] == [
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(0, 4), (1, 0), (1, 1), (1, 2)],
        [(1, 3)],
    ]
    assert await records.take(MAX_RECORDS, 1) == []


async def test_a_log_without_an_end_is_never_finished(stand: Stand) -> None:
    stand.append(E0, 2)
    assert await stand.turns(3) == [0, 0, 0]
    assert not stand.records.finished
