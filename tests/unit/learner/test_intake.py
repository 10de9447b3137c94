"""Records become events; what cannot be used is kept elsewhere before anything goes on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.ports import Outgoing, TopicPartition
from libs.adapters.settings import StackSettings
from libs.adapters.telemetry import LearnerMetrics
from libs.events.codec import encode
from libs.events.dead_letters import ORIGIN_OFFSET, REASON, TRUNCATED_FROM
from libs.events.schema import Interaction
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS, Origin, event_id_of
from services.learner import intake
from services.learner.attribution import Arrival
from services.learner.intake import Batch, EventIntake, PutContent
from services.learner.records import ArrivingRecords
from tests.builders import NOW_MS, content, impression, interaction
from tests.unit.learner.stand import eventually

E0, C0 = TopicPartition(EVENTS, 0), TopicPartition(CONTENTS, 0)


class Stand:
    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.log = MemoryLog(clock_ms=lambda: self.now_ms)
        for spec in topic_specs(StackSettings(events_partitions=1)):
            self.log.create(spec)
        self.registry = CollectorRegistry()
        self.reader = MemoryPartitionReader(self.log, "moard-learner")
        self.intake = EventIntake(
            self.reader,
            ArrivingRecords(self.reader),
            MemoryProducer(self.log),
            LearnerMetrics(self.registry, [(EVENTS, 0), (CONTENTS, 0)]),
            clock_ms=lambda: self.now_ms,
            vector_size=2,
            idle_poll_ms=1,
            partitions=1,
        )
        self.batches: AsyncIterator[Batch] = self.intake.batches(100)

    def append(self, value: bytes | None, topic: str = EVENTS, key: bytes = b"user-1") -> None:
        assert self.log.append(Outgoing(topic, key, value, headers=(("trace", b"1"),)))

    async def batch(self) -> Batch:
        return await anext(self.batches)

    def dead(self, reason: str) -> float:
        return self.registry.get_sample_value("moard_learner_dead_letters_total", {"reason": reason}) or 0.0


@pytest.fixture
async def stand() -> Stand:
    stand = Stand()
    await stand.intake.start({E0: -1, C0: -1})
    return stand


async def test_events_arrive_with_their_append_time_and_move_the_position(stand: Stand) -> None:
    shown, click = impression(), interaction()
    stand.append(encode(shown))
    stand.append(encode(click))

    batch = await stand.batch()

    assert batch.arrivals == [Arrival(0, NOW_MS, shown), Arrival(0, NOW_MS, click)]
    assert stand.intake.positions() == {E0: 2, C0: 0}


async def test_a_slow_start_is_no_silence() -> None:
    stand = Stand()
    stand.now_ms += 60_000
    await stand.intake.start({E0: -1, C0: -1})

    assert stand.intake.busy_at_ms == stand.now_ms


async def test_an_event_without_an_id_gets_the_one_of_its_origin(stand: Stand) -> None:
    stand.append(b'{"type":"interaction","user_id":"u","kind":"click","content_id":1}')

    (arrival,) = (await stand.batch()).arrivals

    assert isinstance(arrival.event, Interaction)
    assert arrival.event.event_id == event_id_of(Origin(EVENTS, 0, 0))


async def test_silence_yields_empty_batches(stand: Stand) -> None:
    assert await stand.batch() == Batch()


async def test_contents_become_vectors(stand: Stand) -> None:
    stand.append(encode(content(7, embedding=(0.5, 1.0), hidden=True)), CONTENTS, b"7")
    stand.append(encode(content(8)), CONTENTS, b"8")
    stand.append(None, CONTENTS, b"9")

    assert (await stand.batch()).contents == [
        PutContent(7, (0.5, 1.0), hidden=True),
        PutContent(8, None, hidden=False),
        PutContent(9, None, hidden=True),
    ]


async def test_what_cannot_be_decoded_goes_to_the_dead_letters_with_its_origin(stand: Stand) -> None:
    stand.append(b"not json")
    stand.append(encode(interaction()))
    stand.append(encode(content(7, embedding=(0.5, 1.0, 2.0))), CONTENTS, b"7")
    stand.append(None, CONTENTS, b"no number")

    batches = [await stand.batch(), await stand.batch()]

    assert [len(batch.arrivals) for batch in batches] in ([1, 0], [0, 1])
    assert sum(batch.dead_events for batch in batches) == 1  # bad contents are no interactions
    letters = stand.log.records(DEAD_LETTERS)
    found = [(dict(each.headers)[REASON], dict(each.headers)[ORIGIN_OFFSET], each.value) for each in letters]
    assert sorted(found)[-1] == (b"json", b"0", b"not json")
    assert [reason for reason, *_ in sorted(found)] == [b"field", b"field", b"json"]
    assert ("trace", b"1") in letters[0].headers
    assert (stand.dead("json"), stand.dead("field")) == (1, 2)


@pytest.mark.parametrize("stray", [False, True])
async def test_reading_does_not_go_on_before_what_cannot_be_used_here_is_kept(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, stray: bool
) -> None:
    monkeypatch.setattr(intake, "_RETRY_S", 0.01)
    monkeypatch.setattr(stand.intake._strays, "_partitions", 2)
    stand.append(encode(interaction("user-0")) if stray else b"not json")
    taken: list[bool] = []

    async def refuse_twice(records: object, timeout_s: float) -> list[bool]:
        taken.append(len(taken) == 2)
        return taken[-1:]

    monkeypatch.setattr(stand.intake._dead_letters, "append", refuse_twice)
    batch = await stand.batch()

    assert (batch.dead_events, batch.arrivals) == (0 if stray else 1, [])
    assert taken == [False, False, True]


async def test_a_dead_letter_of_the_largest_size_still_fits_with_its_headers(stand: Stand) -> None:
    stand.append(b"x" * 1_048_000)

    await stand.batch()

    (letter,) = stand.log.records(DEAD_LETTERS)
    assert len(letter.value or b"") == 1_000_000
    assert dict(letter.headers)[TRUNCATED_FROM] == b"1048000"


async def test_waiting_reads_nothing_and_counts_as_being_busy(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_SHOWN_BUSY_S", 0.001)
    stand.append(encode(interaction()))
    slow, before_ms = asyncio.Event(), stand.intake.busy_at_ms
    assert await stand.intake.hold(_at_once()) == "at once"
    assert stand.intake.busy_at_ms == before_ms  # a turn that waits for nothing says nothing about the log
    stand.now_ms += 5_000
    holding = asyncio.ensure_future(stand.intake.hold(slow.wait()))
    await eventually(lambda: stand.intake.busy_at_ms == stand.now_ms, "the wait to be noticed")
    assert sum(stand.reader.positions().values()) == 0
    slow.set()

    assert await holding is True
    assert len((await stand.batch()).arrivals) == 1


async def _at_once() -> str:
    return "at once"


async def test_partitions_read_to_their_end_are_idle_up_to_the_moment_of_asking(stand: Stand) -> None:
    stand.append(encode(interaction()))
    stand.intake.known_idle({E0: 1, C0: 0}, asked_ms=NOW_MS + 5)
    assert (await stand.batch()).idle_ms == {}  # the record was not read yet

    stand.intake.known_idle({E0: 1, C0: 0}, asked_ms=NOW_MS + 5)
    assert (await stand.batch()).idle_ms == {0: NOW_MS + 5}
    assert stand.intake.waiting_since_ms(E0) == NOW_MS + 5

    stand.intake.known_idle({E0: 2, C0: 0}, asked_ms=NOW_MS + 9)
    assert (await stand.batch()).idle_ms == {0: NOW_MS + 5}


async def test_stopping_ends_the_batches(stand: Stand) -> None:
    await stand.batch()
    stand.intake.stop()

    with pytest.raises(StopAsyncIteration):
        await stand.batch()
