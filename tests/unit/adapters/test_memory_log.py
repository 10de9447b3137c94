"""What only the twin offers: a clock, an outage, retention."""

import pytest

from libs.adapters.memory import MemoryGroupReader, MemoryLog, MemoryPartitionReader, MemoryProducer, MemoryTopicAdmin
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.errors import RefusedStart, StoreUnavailable

TP = TopicPartition("t", 0)


@pytest.fixture
def log() -> MemoryLog:
    found = MemoryLog(clock_ms=iter(range(100, 200)).__next__)
    found.create(TopicSpec("t", 1))
    return found


async def filled(log: MemoryLog, count: int) -> None:
    await MemoryProducer(log).append([Outgoing("t", b"k", str(number).encode()) for number in range(count)], 1)


async def test_the_given_clock_stamps_records(log: MemoryLog) -> None:
    await filled(log, 3)
    assert [record.append_ms for record in log.records("t")] == [100, 101, 102]


async def test_during_an_outage_nothing_is_kept_and_questions_fail(log: MemoryLog) -> None:
    await filled(log, 3)
    producer, reader = MemoryProducer(log), MemoryPartitionReader(log, "g")
    group = MemoryGroupReader(log, "p", "t")
    await reader.start({TP: -1})
    await group.start()
    log.available = False
    assert await producer.append([Outgoing("t", b"k", b"lost")], 1) == [False]
    assert await reader.poll(10, timeout_ms=0) == []
    assert await group.poll(10, timeout_ms=0) == []
    assert not await reader.commit({TP: 1})
    assert not await group.commit()
    assert reader.positions() == {TP: 0}
    for question in (reader.end_offsets, reader.beginning_offsets, MemoryTopicAdmin(log).cluster_id, producer.start):
        with pytest.raises(StoreUnavailable):
            await question()
    log.available = True
    assert [record.value for record in await reader.poll(10, timeout_ms=0)] == [b"0", b"1", b"2"]
    assert len(await group.poll(10, timeout_ms=0)) == 3


async def test_retention_moves_the_beginning_and_a_reader_behind_it_is_refused(log: MemoryLog) -> None:
    await filled(log, 5)
    behind, fresh = MemoryPartitionReader(log, "g"), MemoryPartitionReader(log, "g")
    await behind.start({TP: 1})
    log.truncate(TP, 3)
    await fresh.start({TP: -1})
    assert await fresh.beginning_offsets() == {TP: 3}
    assert [record.offset for record in await fresh.poll(10, timeout_ms=0)] == [3, 4]
    with pytest.raises(RefusedStart, match=r"offset 1 .*RETENTION"):
        await behind.poll(10, timeout_ms=0)
    log.truncate(TP, 99)
    await filled(log, 1)
    assert [record.offset for record in await fresh.poll(10, timeout_ms=0)] == [5]


async def test_no_partition_starves(log: MemoryLog) -> None:
    log.create(TopicSpec("two", 2))
    for number in range(20):
        log.append(Outgoing("two", b"k", b"", partition=number % 2))
    reader = MemoryPartitionReader(log, "g")
    await reader.start({TopicPartition("two", 0): 0, TopicPartition("two", 1): 0})
    seen = {(await reader.poll(1, timeout_ms=0))[0].partition for _ in range(4)}
    assert seen == {0, 1}


async def test_a_member_that_left_gives_its_partitions_back() -> None:
    log = MemoryLog()
    log.create(TopicSpec("t", 4))
    first, second = MemoryGroupReader(log, "g", "t"), MemoryGroupReader(log, "g", "t")
    await first.start()
    await second.start()
    for number in range(4):
        log.append(Outgoing("t", b"k", b"", partition=number))
    assert len(await first.poll(10, timeout_ms=0)) == 2
    assert await first.commit()
    await second.stop()
    assert not await first.commit()  # what it read belongs to an older share
    assert {record.partition for record in await first.poll(10, timeout_ms=0)} == {1, 3}
