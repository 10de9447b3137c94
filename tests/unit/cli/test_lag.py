"""How far readers are behind, over the in-memory log."""

from libs.adapters.memory import MemoryLog, MemoryPartitionReader
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.events.topics import EVENTS
from services.cli.lag import Behind, behind, table_of

EVENTS_0, EVENTS_1 = TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1)


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def stand() -> tuple[MemoryLog, Clock]:
    clock = Clock()
    log = MemoryLog(clock)
    log.create(TopicSpec(EVENTS, 2))
    for _ in range(5):
        clock.now_ms += 1_000
        log.append(Outgoing(EVENTS, b"k", b"{}", partition=0))
    return log, clock


async def test_lag_is_what_was_not_committed_and_the_age_of_its_oldest_record() -> None:
    log, clock = stand()
    reader = MemoryPartitionReader(log, "lag")

    found = await behind(reader, {"learner": {EVENTS_0: 3, EVENTS_1: 0}}, clock.now_ms + 500)

    assert found == [Behind("learner", EVENTS, 0, 5, 3, 2, 1.5), Behind("learner", EVENTS, 1, 0, 0, 0, 0.0)]


async def test_who_never_committed_has_everything_before_it() -> None:
    log, clock = stand()
    reader = MemoryPartitionReader(log, "lag")

    groups: dict[str, dict[TopicPartition, int | None]] = {"learner": {EVENTS_0: None}, "projector": {EVENTS_0: 5}}
    found = await behind(reader, groups, clock.now_ms)

    assert found == [Behind("learner", EVENTS, 0, 5, None, 5, 4.0), Behind("projector", EVENTS, 0, 5, 5, 0, 0.0)]
    assert table_of(found).row_count == 2


async def test_without_topics_there_is_nothing_to_say() -> None:
    assert await behind(MemoryPartitionReader(MemoryLog(), "lag"), {"learner": {}}, 0) == []
