"""What the services rely on of an event log, held against Kafka and against its twin."""

import asyncio
import gc
import time
import uuid
from collections import Counter
from itertools import groupby

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from libs.adapters.event_log import KafkaTopicAdmin
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.topics import partition_of
from tests.contract.event_log_stand import EventLog, eventually, outgoing, read


def beginnings(topic: str, partitions: int = 2) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, number): -1 for number in range(partitions)}


async def test_records_come_back_whole(event_log: EventLog) -> None:
    topic = await event_log.topic(partitions=1)
    producer = await event_log.producer()
    before_ms = time.time_ns() // 1_000_000 - 5_000
    headers = (("reason", b"json"), ("origin", b"moard.events/0/7"))
    sent = [Outgoing(topic, b"k", b"v", headers), Outgoing(topic, b"k", None)]
    assert await producer.append(sent, timeout_s=20) == [True, True]

    first, tombstone = await read(await event_log.reader(beginnings(topic, 1)), 2)
    assert (first.topic, first.partition, first.offset, first.key, first.value) == (topic, 0, 0, b"k", b"v")
    assert first.headers == headers
    assert before_ms < first.append_ms < before_ms + 60_000
    assert (tombstone.offset, tombstone.value, tombstone.headers) == (1, None, ())
    assert producer.pending == 0


async def test_each_partition_is_read_in_the_order_of_appending(event_log: EventLog) -> None:
    topic = await event_log.filled(200)
    records = await read(await event_log.reader(beginnings(topic)), 200)
    assert sorted(int(record.value or b"") for record in records) == list(range(200))
    for _, found in groupby(sorted(records, key=lambda r: r.partition), key=lambda r: r.partition):
        partition = list(found)
        assert [record.offset for record in partition] == list(range(len(partition)))
        assert [int(r.value or b"") for r in partition] == sorted(int(r.value or b"") for r in partition)


async def test_the_key_decides_the_partition_by_murmur2(event_log: EventLog) -> None:
    topic = await event_log.topic(partitions=7)
    keys = [f"user-{number}-ü".encode() for number in range(40)]
    await (await event_log.producer()).append([Outgoing(topic, key, b"") for key in keys], timeout_s=20)
    records = await read(await event_log.reader(beginnings(topic, 7)), len(keys))
    assert {record.key: record.partition for record in records} == {key: partition_of(key, 7) for key in keys}


async def test_a_given_partition_wins_over_the_key(event_log: EventLog) -> None:
    topic = await event_log.topic()
    key = next(key for key in (b"a", b"b", b"c", b"d") if partition_of(key, 2) == 0)
    await (await event_log.producer()).append([Outgoing(topic, key, b"", partition=1)], timeout_s=20)
    assert [record.partition for record in await read(await event_log.reader(beginnings(topic)), 1)] == [1]


async def test_placing_tells_the_partition_and_an_offset_behind_each_record(event_log: EventLog) -> None:
    topic, producer = await event_log.topic(), await event_log.producer()
    sent = [outgoing(topic, number) for number in range(20)]
    places = [place for part in (sent[:10], sent[10:]) for place in await producer.place(part, timeout_s=20)]
    records = await read(await event_log.reader(beginnings(topic)), 20)
    found = {record.value: record for record in records}
    for part in (range(10), range(10, 20)):  # the second was appended when the first was acknowledged
        ends = Counter(found[record.value].partition for record in sent[: part.stop])
        for number in part:
            place, record = places[number], found[sent[number].value]
            assert place is not None
            assert place.partition == record.partition
            assert record.offset < place.until <= ends[record.partition]
    assert await producer.place([outgoing(f"absent-{uuid.uuid4().hex}", 1)], timeout_s=0.5) == [None]


async def test_an_unknown_topic_is_not_acknowledged(event_log: EventLog) -> None:
    producer = await event_log.producer()
    known = await event_log.topic()
    assert await producer.append([outgoing(f"absent-{uuid.uuid4().hex}", 1)], timeout_s=0.5) == [False]
    assert await producer.append([outgoing(known, 1)], timeout_s=20) == [True]


async def test_reading_starts_at_the_given_offset(event_log: EventLog) -> None:
    topic = await event_log.filled(10, partitions=1)
    tp = TopicPartition(topic, 0)
    reader = await event_log.reader({tp: 7})
    assert reader.positions() == {tp: 7}
    assert [record.offset for record in await read(reader, 3)] == [7, 8, 9]
    assert reader.positions() == {tp: 10}


async def test_a_moment_is_found_in_each_partition(event_log: EventLog) -> None:
    topic, producer = await event_log.topic(), await event_log.producer()
    for part in (range(10), range(10, 20)):
        await producer.append([outgoing(topic, number) for number in part], timeout_s=20)
    reader = await event_log.reader(beginnings(topic))
    records = await read(reader, 20)
    ends = await reader.end_offsets()
    for at_ms in {record.append_ms for record in records}:
        earlier = Counter(TopicPartition(topic, each.partition) for each in records if each.append_ms < at_ms)
        assert await reader.offsets_at(at_ms) == {tp: earlier[tp] for tp in ends}
    assert await reader.offsets_at(0) == dict.fromkeys(ends, 0)
    assert await reader.offsets_at(records[0].append_ms + 3_600_000) == ends


async def test_only_assigned_partitions_are_read(event_log: EventLog) -> None:
    topic = await event_log.filled(40)
    tp = TopicPartition(topic, 1)
    reader = await event_log.reader({tp: -1})
    ends = await reader.end_offsets()
    assert list(ends) == [tp]
    assert {record.partition for record in await read(reader, ends[tp])} == {1}
    assert await reader.poll(10, timeout_ms=100) == []


async def test_max_records_bounds_a_poll_and_loses_nothing(event_log: EventLog) -> None:
    topic = await event_log.filled(50)
    reader = await event_log.reader(beginnings(topic))
    sizes: list[int] = []
    values: set[bytes | None] = set()
    while len(values) < 50:
        records = await reader.poll(7, timeout_ms=1_000)
        sizes.append(len(records))
        values |= {record.value for record in records}
    assert max(sizes) <= 7
    assert sum(sizes) == 50


async def test_a_waiting_poll_wakes_at_the_next_record(event_log: EventLog) -> None:
    topic = await event_log.topic()
    producer = await event_log.producer()
    reader = await event_log.reader(beginnings(topic))
    assert await reader.poll(10, timeout_ms=50) == []
    polling = asyncio.create_task(reader.poll(10, timeout_ms=60_000))
    await producer.append([outgoing(topic, 1)], timeout_s=20)
    assert [record.value for record in await asyncio.wait_for(polling, 20)] == [b"1"]


async def test_beginning_end_and_lag(event_log: EventLog) -> None:
    topic = await event_log.filled(10, partitions=1)
    tp = TopicPartition(topic, 0)
    reader = await event_log.reader({tp: 4})
    assert reader.lag() == {tp: 6}  # known before the first fetch
    assert await reader.beginning_offsets() == {tp: 0}
    assert await reader.end_offsets() == {tp: 10}
    assert reader.lag() == {tp: 6}
    await read(reader, 4)
    assert reader.lag() == {tp: 2}
    await read(reader, 2)
    assert reader.lag() == {tp: 0}


async def test_a_paused_reader_returns_nothing_and_then_everything(event_log: EventLog) -> None:
    topic = await event_log.filled(20)
    reader = await event_log.reader(beginnings(topic))
    first = await read(reader, 5)
    reader.pause()
    assert await reader.poll(100, timeout_ms=300) == []
    assert sum(reader.positions().values()) == 5
    reader.resume()
    rest = await read(reader, 15)
    assert sorted(int(r.value or b"") for r in first + rest) == list(range(20))


async def test_single_partitions_can_be_paused(event_log: EventLog) -> None:
    topic = await event_log.filled(20)
    reader = await event_log.reader(beginnings(topic))
    reader.pause([TopicPartition(topic, 0)])
    found = await read(reader, (await reader.end_offsets())[TopicPartition(topic, 1)])
    assert {record.partition for record in found} == {1}
    assert await reader.poll(100, timeout_ms=300) == []
    reader.resume()
    assert {record.partition for record in await read(reader, 20 - len(found))} == {0}


async def test_pausing_keeps_no_more_than_one_answer_for_each_partition(
    event_log: EventLog, request: pytest.FixtureRequest
) -> None:
    topic = await event_log.topic()
    producer = await event_log.producer()
    large = [Outgoing(topic, None, bytes(100_000), partition=number % 2) for number in range(60)]
    assert all(await producer.append(large, timeout_s=20))
    reader = await event_log.reader(beginnings(topic))
    gc.collect()
    gc.disable()  # what lies in cycles is kept, as in a learner that collects rarely
    request.addfinalizer(gc.enable)
    before = _answers_kept()
    for _ in range(60):
        await read(reader, 1)
        reader.pause()
        assert await reader.poll(1, timeout_ms=5) == []
        reader.resume()
    assert _answers_kept() - before <= 2


def _answers_kept() -> int:
    return sum(type(kept).__name__ == "PartitionRecords" for kept in gc.get_objects())


async def test_a_groups_lag_is_seen_from_outside(event_log: EventLog) -> None:
    topic = await event_log.filled(20)
    first, second = beginnings(topic)
    offsets = await event_log.offsets(topic)
    reader = await event_log.reader(beginnings(topic), group=topic)
    ends = await reader.end_offsets()
    assert await offsets.behind([first, second]) == ends  # nothing was committed: all of it waits
    assert await reader.commit({first: 3})
    assert await offsets.behind([first, second]) == ends | {first: ends[first] - 3}
    assert all(await (await event_log.producer()).append([outgoing(topic, n) for n in range(10)], timeout_s=20))
    assert sum((await offsets.behind([first, second])).values()) == 27


async def test_an_offset_past_the_end_is_refused_never_jumped(event_log: EventLog) -> None:
    topic = await event_log.filled(3, partitions=1)
    reader = await event_log.reader({TopicPartition(topic, 0): 1_000})
    with pytest.raises(RefusedStart, match="1000"):
        await read(reader, 1)


async def test_committed_offsets_do_not_move_an_assigned_reader(event_log: EventLog) -> None:
    topic = await event_log.filled(5, partitions=1)
    tp = TopicPartition(topic, 0)
    reader = await event_log.reader({tp: -1}, group=topic)
    assert await reader.committed() == {}
    assert await reader.commit({tp: 4})
    assert [record.offset for record in await read(reader, 5)] == [0, 1, 2, 3, 4]
    again = await event_log.reader({tp: -1}, group=topic)
    assert await again.committed() == {tp: 4}


async def test_a_group_starts_at_the_beginning_and_resumes_after_its_commit(event_log: EventLog) -> None:
    topic = await event_log.filled(20)
    first = await event_log.group(f"group-{topic}", topic)
    done = await read(first, 8)
    assert await first.commit()
    await read(first, 5)  # read and never committed: comes again
    await first.stop()

    second = await event_log.group(f"group-{topic}", topic)
    rest = await read(second, 12)
    assert {record.value for record in done}.isdisjoint({record.value for record in rest})
    await eventually(lambda: _caught_up(second))


async def _caught_up(reader: object) -> bool:
    assert await reader.poll(10, timeout_ms=100) == []  # type: ignore[attr-defined]
    return set(reader.lag().values()) == {0}  # type: ignore[attr-defined]


async def test_two_members_share_the_partitions(event_log: EventLog) -> None:
    topic = await event_log.filled(40, partitions=4)
    group = f"group-{topic}"
    first = await event_log.group(group, topic)

    async def drain_first() -> None:
        while True:
            await first.poll(100, timeout_ms=50)

    draining = asyncio.create_task(drain_first())  # a real join completes only while the other member polls
    second = await event_log.group(group, topic)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    # Nothing was committed: after the rebalance every record is read again, by exactly one of the two.
    producer = await event_log.producer()
    await producer.append([outgoing(topic, number) for number in range(100, 140)], timeout_s=20)
    seen: dict[int, set[int]] = {1: set(), 2: set()}

    async def all_seen() -> bool:
        for number, member in ((1, first), (2, second)):
            seen[number] |= {record.partition for record in await member.poll(100, timeout_ms=100)}
        return seen[1] | seen[2] == {0, 1, 2, 3}

    await eventually(all_seen)
    assert seen[1].isdisjoint(seen[2])
    assert seen[1]
    assert seen[2]
    assert first.rebalances >= 2  # its start, and the other one's coming
    assert second.rebalances >= 1


async def test_ensure_is_idempotent_and_refuses_another_partition_count(event_log: EventLog) -> None:
    topic = await event_log.topic(partitions=3)
    await event_log.admin.ensure([TopicSpec(topic, 3, {"retention.ms": "3600000"})])
    assert await event_log.admin.partitions(topic) == 3
    with pytest.raises(RefusedStart, match=r"3 partitions.*MOARD_EVENTS_PARTITIONS=3"):
        await event_log.admin.ensure([TopicSpec(topic, 4)])


async def test_the_admin_knows_the_cluster_and_missing_topics(event_log: EventLog) -> None:
    assert await event_log.admin.cluster_id() == await event_log.admin.cluster_id() != ""
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await event_log.admin.partitions(f"absent-{uuid.uuid4().hex}")


async def test_a_changed_setting_is_applied_and_those_of_an_operator_stay(event_log: EventLog) -> None:
    topic = await event_log.topic(partitions=1, max_message_bytes="5000")
    await event_log.admin.ensure([TopicSpec(topic, 1, {"retention.ms": "3600000"})])
    producer = await event_log.producer()
    assert await producer.append([outgoing(topic, 1)], timeout_s=20) == [True]
    if isinstance(event_log.admin, KafkaTopicAdmin):
        found = await topic_settings(event_log.admin, topic)
        assert found["retention.ms"] == "3600000"
        assert found["max.message.bytes"] == "5000"
        assert found["message.timestamp.type"] == "LogAppendTime"


async def topic_settings(admin: KafkaTopicAdmin, topic: str) -> dict[str, str]:
    client = await admin._live()
    (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {name: value for resource in answer.resources for name, value, *_ in resource[-1]}
