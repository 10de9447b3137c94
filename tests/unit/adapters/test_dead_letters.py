"""The dead letters as people ask for them."""

import pytest

from libs.adapters.dead_letters import GROUP, DeadLetters, Wanted
from libs.adapters.memory import MemoryLog, MemoryPartitionReader
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.errors import BadEvent, StoreUnavailable
from libs.events.dead_letters import Letter, dead_letter
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS, Origin
from tests.builders import NOW_MS

HERE = Origin(EVENTS, 0, 7)


class Topic:
    """A dead-letter topic that gets a letter a second."""

    def __init__(self, partitions: int = 1) -> None:
        clock = iter(range(NOW_MS, NOW_MS + 10**9, 1_000))
        self.log = MemoryLog(clock_ms=lambda: next(clock))
        self.log.create(TopicSpec(DEAD_LETTERS, partitions))
        self.letters = DeadLetters(lambda: MemoryPartitionReader(self.log, GROUP), partitions)

    def bury(self, reason: str = "json", origin: Origin = HERE, partition: int = 0) -> None:
        letter = dead_letter(b"u", b"?", (("trace", b"1"),), origin, NOW_MS - 5, BadEvent(reason, "why", "where"))
        self.log.append(Outgoing(DEAD_LETTERS, letter.key, letter.value, letter.headers, partition))

    async def replayed(self, wanted: Wanted) -> list[int]:
        return [letter.offset async for letters, _, _ in self.letters.batches(wanted) for letter in letters]


async def test_a_letter_says_what_was_written_with_it() -> None:
    topic = Topic()
    topic.bury("schema", Origin(CONTENTS, 3, 42))
    (letter,) = await topic.letters.newest(10)
    assert letter == Letter(
        partition=0,
        offset=0,
        append_ms=NOW_MS,
        key=b"u",
        value=b"?",
        own=(("trace", b"1"),),
        origin=Origin(CONTENTS, 3, 42),
        origin_ms=NOW_MS - 5,
        error="BadEvent",
        reason="schema",
        field="where",
        detail="why",
        schema="1",
        truncated_from=None,
    )
    assert letter.id == "0:0"
    assert await topic.letters.letter(0, 0) == letter


@pytest.mark.parametrize("place", [(0, 1), (0, -1), (1, 0)])
async def test_there_is_no_letter_where_none_was_written(place: tuple[int, int]) -> None:
    topic = Topic()
    topic.bury()
    assert await topic.letters.letter(*place) is None


async def test_what_somebody_else_wrote_into_the_topic_is_shown_too() -> None:
    topic = Topic()
    headers = (("moard-origin-offset", "²".encode()), ("moard-reason", b"\xff"))
    topic.log.append(Outgoing(DEAD_LETTERS, None, None, headers))
    (letter,) = await topic.letters.newest(1)
    assert letter.origin == Origin("", -1, -1)
    assert letter.reason == "\N{REPLACEMENT CHARACTER}"


async def test_the_newest_come_first_whatever_partition_they_lie_in() -> None:
    topic = Topic(partitions=2)
    for number in range(7):
        topic.bury(partition=number % 2)
    found = await topic.letters.newest(3)
    assert [letter.id for letter in found] == ["0:3", "1:2", "0:2"]


async def test_a_search_goes_back_as_far_as_it_must_and_no_further_than_it_may() -> None:
    topic = Topic()
    topic.bury("type")
    for _ in range(250):
        topic.bury()
    assert [letter.offset for letter in await topic.letters.newest(5, Wanted(reason="type"))] == [0]
    assert await topic.letters.newest(5, Wanted(reason="type"), look_at=250) == []
    since = Wanted(reason="type", since_ms=NOW_MS + 1)
    assert await topic.letters.newest(5, since) == []


async def test_retention_leaves_what_is_left() -> None:
    topic = Topic()
    for _ in range(5):
        topic.bury()
    topic.log.truncate(TopicPartition(DEAD_LETTERS, 0), 3)
    assert [letter.offset for letter in await topic.letters.newest(5)] == [4, 3]
    assert await topic.replayed(Wanted()) == [3, 4]
    assert await topic.letters.letter(0, 2) is None


async def test_each_filter_takes_what_it_names() -> None:
    topic = Topic()
    topic.bury("json", Origin(EVENTS, 0, 1))
    topic.bury("json", Origin(EVENTS, 1, 1))
    topic.bury("field", Origin(CONTENTS, 0, 1))
    assert await topic.replayed(Wanted()) == [0, 1, 2]
    assert await topic.replayed(Wanted(reason="json")) == [0, 1]
    assert await topic.replayed(Wanted(topic=CONTENTS)) == [2]
    assert await topic.replayed(Wanted(partition=0)) == [0, 2]
    assert await topic.replayed(Wanted(since_ms=NOW_MS + 1_000)) == [1, 2]
    assert await topic.replayed(Wanted(reason="json", topic=CONTENTS)) == []


async def test_without_a_broker_there_is_an_error_and_no_empty_list() -> None:
    topic = Topic()
    topic.log.available = False
    with pytest.raises(StoreUnavailable):
        await topic.letters.newest(1)
