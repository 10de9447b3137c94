"""Which part of a topic ``moard evaluate`` reads."""

import pytest

from libs.adapters.memory import MemoryLog, MemoryPartitionReader
from libs.adapters.ports import Outgoing, TopicSpec
from libs.errors import RefusedStart
from libs.events.codec import encode
from libs.events.topics import EVENTS
from services.cli.evaluation_input import Bound, Entry, Range, TopicSource
from tests.builders import NOW_MS, impression


@pytest.fixture
def topic() -> MemoryLog:
    """Return a log of two partitions, a record a second in turn: 0, 2, 4 … and 1, 3, 5 …"""
    clock = iter(range(NOW_MS, NOW_MS + 10**9, 1_000))
    memory = MemoryLog(clock_ms=lambda: next(clock))
    memory.create(TopicSpec(EVENTS, 2))
    for number in range(40):
        event = impression(f"user-{number}", event_id=f"i{number}")
        memory.append(Outgoing(EVENTS, None, encode(event), partition=number % 2))
    return memory


async def read(topic: MemoryLog, wanted: Range, patience_ms: int = 3_000) -> tuple[list[Entry], TopicSource]:
    source = TopicSource(MemoryPartitionReader(topic, "g"), 2, wanted, patience_ms)
    await source.start()
    entries = [entry async for batch, _ in source.batches() for entry in batch]
    return entries, source


async def test_a_topic_is_read_from_its_beginning_to_its_end_as_of_now(topic: MemoryLog) -> None:
    topic.append(Outgoing(EVENTS, None, b"not json", partition=1))
    entries, source = await read(topic, Range())
    assert {entry.event.event_id for entry in entries} == {f"i{number}" for number in range(40)}
    assert source.total == 41
    assert source.bad[0].startswith("moard.events:1 offset 20: not JSON")


async def test_behind_a_range_is_read_as_long_as_interactions_may_come(topic: MemoryLog) -> None:
    wanted = Range(Bound(at_ms=NOW_MS + 10_000), Bound(at_ms=NOW_MS + 20_000))
    entries, _ = await read(topic, wanted)
    assert sorted(int(entry.event.event_id[1:]) for entry in entries) == list(range(10, 22))
    by_offset = Range(Bound(offsets={0: 5, 1: 5}), Bound(offsets={0: 10, 1: 10}))
    entries, source = await read(topic, by_offset)
    assert sorted(int(entry.event.event_id[1:]) for entry in entries) == list(range(10, 22))
    assert source.total == 30
    with pytest.raises(RefusedStart, match=r"--from 0:99: partition 0 of moard\.events ends at 20"):
        await read(topic, Range(Bound(offsets={0: 99})))


async def test_an_empty_topic_has_nothing_to_say() -> None:
    memory = MemoryLog()
    memory.create(TopicSpec(EVENTS, 2))
    entries, source = await read(memory, Range())
    assert (entries, source.total) == ([], 0)
