"""Which dead letters are sent again, and as what."""

from collections.abc import Sequence

import orjson
import pytest

from libs.adapters.dead_letters import EVERY, GROUP, DeadLetters, Wanted
from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.ports import Outgoing, Place, Record
from libs.adapters.settings import StackSettings
from libs.errors import BadEvent, StoreUnavailable
from libs.events.codec import encode
from libs.events.dead_letters import REASON, dead_letter
from libs.events.resending import REPLAYED_FROM
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS, Origin, event_id_of, partition_of, user_key
from services.cli.dlq_replay import SKIPPED, Replay
from tests.builders import NOW_MS, content, interaction

BARE = b'{"type":"interaction","user_id":"u","kind":"click","content_id":1}'


class Topics:
    def __init__(self) -> None:
        self.log = MemoryLog(clock_ms=lambda: NOW_MS)
        for spec in topic_specs(StackSettings(events_partitions=4, contents_partitions=2)):
            self.log.create(spec)

    def bury(self, value: bytes, topic: str = EVENTS, reason: str = "field", offset: int | None = None) -> Origin:
        """Append a record, and a dead letter for it."""
        key = b"7" if topic == CONTENTS else b"u"
        place = self.log.place(Outgoing(topic, key, value))
        assert place is not None
        origin = Origin(topic, place.partition, place.until - 1 if offset is None else offset)
        letter = dead_letter(key, value, (("trace", b"1"),), origin, NOW_MS - 5, BadEvent(reason, "why"))
        self.log.append(Outgoing(DEAD_LETTERS, letter.key, letter.value, letter.headers))
        return origin

    async def replay(self, wanted: Wanted = EVERY, dry_run: bool = False) -> Replay:
        producer = None if dry_run else MemoryProducer(self.log)
        replay = Replay(self.letters, producer, (self.reader, 2), vector_size=2)
        await replay.run(wanted, lambda read, total: None)
        return replay

    @property
    def letters(self) -> DeadLetters:
        return DeadLetters(self.reader)

    def reader(self) -> MemoryPartitionReader:
        return MemoryPartitionReader(self.log, GROUP)

    def sent(self, topic: str = EVENTS) -> list[Record]:
        return [each for each in self.log.records(topic) if REPLAYED_FROM in dict(each.headers)]


async def test_an_event_goes_to_the_partition_of_its_user_as_the_event_it_was() -> None:
    topics = Topics()
    origin = topics.bury(BARE)
    done = await topics.replay()
    (record,) = topics.sent()
    assert record.partition == partition_of(user_key("u"), 4)
    assert record.key == b"u"
    document = orjson.loads(record.value or b"")
    assert (document["event_id"], document["timestamp_ms"]) == (event_id_of(origin), NOW_MS - 5)
    assert record.headers == (("trace", b"1"), (REPLAYED_FROM, b"moard.events.dlq/0/0"))
    assert (done.tally.letters, done.tally.sent, done.tally.skipped) == (1, {EVENTS: 1}, {})


async def test_twice_is_the_same_bytes_and_a_third_letter_names_only_its_own_place() -> None:
    topics = Topics()
    topics.bury(BARE)
    await topics.replay()
    await topics.replay()
    first, second = topics.sent()
    assert first.value == second.value
    letter = dead_letter(first.key, first.value, first.headers, Origin(EVENTS, 0, 9), NOW_MS, BadEvent("field", "why"))
    topics.log.append(Outgoing(DEAD_LETTERS, letter.key, letter.value, letter.headers))
    await topics.replay()
    assert topics.sent()[-1].headers == (("trace", b"1"), (REPLAYED_FROM, b"moard.events.dlq/0/1"))
    assert topics.sent()[-1].value == first.value


async def test_an_id_of_its_own_is_kept() -> None:
    topics = Topics()
    topics.bury(encode(interaction(event_id="mine", timestamp_ms=1)))
    await topics.replay()
    assert orjson.loads(topics.sent()[0].value or b"")["event_id"] == "mine"


async def test_a_content_is_sent_unless_a_later_record_of_it_is_there() -> None:
    topics = Topics()
    topics.bury(encode(content(7, embedding=(0.5, 1.0))), CONTENTS)
    assert (await topics.replay()).tally.sent == {CONTENTS: 1}
    again = await topics.replay()  # the one just sent is later
    assert (again.tally.sent, again.tally.skipped) == ({}, {"superseded": 1})
    (record,) = topics.sent(CONTENTS)
    assert record.key == b"7"


@pytest.mark.parametrize(
    ("value", "topic", "reason", "offset", "why"),
    [
        (b"not json", EVENTS, "json", None, "unreadable"),
        (encode(content(7, embedding=(0.5, 1.0, 2.0))), CONTENTS, "field", None, "unreadable"),
        (b"x" * 1_000_001, EVENTS, "oversize", None, "cut"),
        (BARE, EVENTS, "poison", None, "poison"),
        (BARE, DEAD_LETTERS, "field", None, "unknown_origin"),
    ],
)
async def test_what_would_only_come_back_stays(
    value: bytes, topic: str, reason: str, offset: int | None, why: str
) -> None:
    topics = Topics()
    topics.bury(value, topic, reason, offset)
    wanted = Wanted(reason=reason)
    done = await topics.replay(wanted)
    assert (done.tally.sent, done.tally.skipped) == ({}, {why: 1})
    assert why in SKIPPED


async def test_a_dry_run_judges_and_sends_nothing() -> None:
    topics = Topics()
    topics.bury(BARE)
    topics.bury(b"not json", reason="json")
    done = await topics.replay(dry_run=True)
    assert (done.tally.letters, done.tally.sent, done.tally.skipped) == (2, {EVENTS: 1}, {"unreadable": 1})
    assert topics.sent() == []


async def test_only_what_is_wanted_is_sent() -> None:
    topics = Topics()
    topics.bury(BARE, reason="type")
    topics.bury(BARE, reason="field")
    done = await topics.replay(Wanted(reason="type"))
    assert done.tally.letters == 1
    (record,) = topics.sent()
    assert dict(record.headers)[REPLAYED_FROM] == b"moard.events.dlq/0/0"
    assert REASON not in dict(record.headers)


class Half:
    """A producer whose broker takes every other record."""

    pending = 0

    async def start(self) -> None:
        pass

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        return [number % 2 == 0 for number in range(len(records))]

    async def place(self, records: Sequence[Outgoing], timeout_s: float) -> list[Place | None]:
        raise AssertionError

    async def stop(self) -> None:
        pass


async def test_a_broker_that_takes_only_some_is_an_error_that_says_how_many() -> None:
    topics = Topics()
    for _ in range(4):
        topics.bury(BARE)
    replay = Replay(topics.letters, Half(), (topics.reader, 2), vector_size=2)
    with pytest.raises(StoreUnavailable, match="took 2 records"):
        await replay.run(EVERY, lambda read, total: None)


async def test_progress_counts_up_to_the_whole() -> None:
    topics = Topics()
    for _ in range(150):
        topics.bury(BARE)
    heard: list[tuple[int, int]] = []
    replay = Replay(topics.letters, None, (topics.reader, 2), vector_size=2)
    await replay.run(EVERY, lambda read, total: heard.append((read, total)))
    assert sum(read for read, _ in heard) == 150
    assert {total for _, total in heard} == {150}
