"""Events in a wrong partition: sent on once, learned where their user's other events are, and only there."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from libs.adapters.ports import Outgoing, Record, TopicPartition
from libs.errors import BadEvent
from libs.events.codec import decode_event, encode
from libs.events.dead_letters import DETAIL, REASON
from libs.events.resending import MISROUTED_FROM
from libs.events.schema import Event
from libs.events.topics import DEAD_LETTERS, EVENTS, Origin, event_id_of, user_key
from services.learner import checkpoint_files, log_watch
from services.learner.ledger import read_ledger
from services.learner.strays import Strays
from tests.builders import impression, interaction
from tests.unit.learner.stand import Stand

HOME, ELSEWHERE = 1, 0  # of user-0, in a topic of two partitions
BARE = b'{"type":"interaction","user_id":"user-0","kind":"click","content_id":1}'


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def astray(stand: Stand, event: Event | bytes, *headers: tuple[str, bytes], key: bytes | None = b"user-0") -> None:
    """Append something of user-0 to the wrong partition."""
    value = event if isinstance(event, bytes) else encode(event)
    stand.log.append(Outgoing(EVENTS, key, value, headers, ELSEWHERE))


def sent_on(stand: Stand) -> list[Record]:
    return [each for each in stand.log.records(EVENTS) if MISROUTED_FROM in dict(each.headers)]


def outcomes(stand: Stand) -> dict[str, float]:
    names = ("joined", "late_applied", "late_lost", "organic", "duplicate", "dead_lettered")
    found = {name: stand.metric("interactions_total", outcome=name) for name in names}
    return {name: count for name, count in found.items() if count}


async def crash_after(stand: Stand, records: int) -> None:
    """Let a learner read so many records and be gone without a checkpoint."""
    learner = stand.learner(learner_checkpoint_interval_s=3600.0)
    await learner.start()
    task = asyncio.ensure_future(learner.run())
    await stand.read(records)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert checkpoint_files.newest_valid(stand.folder) is None


async def test_an_impression_and_its_click_are_joined_although_both_strayed(stand: Stand) -> None:
    astray(stand, impression("user-0", event_id="i", slate=(1, 2)), ("trace", b"1"))
    stand.append(interaction("user-0", 1, event_id="before", impression_id="i"))  # its client partitions as it should
    astray(stand, interaction("user-0", 2, event_id="after", impression_id="i"))
    learner = stand.learner()
    async with learner.running():
        await stand.read(5)

    assert [record.partition for record in sent_on(stand)] == [HOME, HOME]
    assert sent_on(stand)[0].headers == (("trace", b"1"), (MISROUTED_FROM, b"moard.events/0/0"))
    assert outcomes(stand) == {"joined": 2}
    assert stand.metric("misrouted_total", result="sent_on") == 2
    assert sorted(read_ledger(stand.folder)) == ["after", "before", "i"]


@pytest.mark.parametrize("key", [b"user-0", b"session-7", None])
async def test_whatever_the_key_says_an_event_without_an_id_gets_that_of_its_origin(
    stand: Stand, key: bytes | None
) -> None:
    astray(stand, BARE, key=key)
    async with stand.learner().running():
        await stand.read(2)

    (record,) = sent_on(stand)
    expected = event_id_of(Origin(EVENTS, ELSEWHERE, 0))
    assert decode_event(record.value, Origin(EVENTS, HOME, 0)).event_id == expected
    assert record.key == user_key("user-0")
    assert list(read_ledger(stand.folder)) == [expected]
    assert outcomes(stand) == {"organic": 1}


async def test_one_that_strays_again_is_a_dead_letter_and_goes_round_no_more(stand: Stand) -> None:
    astray(stand, BARE, (MISROUTED_FROM, b"moard.events/0/9"))
    async with stand.learner().running():
        await stand.read(1)

    assert len(stand.log.records(EVENTS)) == 1
    (letter,) = stand.log.records(DEAD_LETTERS)
    assert dict(letter.headers)[REASON] == b"field"
    assert b"murmur2" in dict(letter.headers)[DETAIL]
    assert outcomes(stand) == {"dead_lettered": 1}


async def test_a_crash_after_sending_on_sends_a_second_one_that_is_a_duplicate(stand: Stand) -> None:
    astray(stand, BARE)
    await crash_after(stand, 2)
    async with stand.learner().running():
        await stand.read(3)

    assert len(sent_on(stand)) == 2
    assert outcomes(stand) == {"organic": 1, "duplicate": 1}
    assert list(read_ledger(stand.folder)) == [event_id_of(Origin(EVENTS, ELSEWHERE, 0))]


async def test_a_learner_that_begins_anew_knows_what_was_sent_on_before(stand: Stand, tmp_path: Path) -> None:
    astray(stand, BARE)
    async with stand.learner().running():
        await stand.read(2)
    anew = stand.learner(learner_checkpoint_path=str(tmp_path / "anew"))
    async with anew.running():
        await stand.read(2)

    assert len(sent_on(stand)) == 1
    assert outcomes(stand) == {"organic": 1}
    assert stand.metric("misrouted_total", result="known") == 1
    assert list(read_ledger(tmp_path / "anew")) == [event_id_of(Origin(EVENTS, ELSEWHERE, 0))]


async def test_offsets_that_another_log_left_under_the_group_say_nothing(stand: Stand) -> None:
    stand.log.group("moard-learner").committed[TopicPartition(EVENTS, ELSEWHERE)] = 1_000
    astray(stand, BARE)
    async with stand.learner().running():
        await stand.read(2)

    assert len(sent_on(stand)) == 1


async def test_by_the_log_two_learners_of_it_are_equal_bit_for_bit(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_watch, "_ASK_EVERY_S", 0.01)
    stand.settings |= {"learner_schedule": "log", "learner_round_records": 4, "learner_batch_size": 2}
    for number in range(6):
        shown = impression("user-0", event_id=f"i{number}", slate=(1, 2))
        clicked = interaction("user-0", 1, event_id=f"c{number}", impression_id=f"i{number}")
        for event in (shown, clicked):
            if number % 2:
                astray(stand, event)
            else:
                stand.append(event)
    await crash_after(stand, 16)  # the six strays and four of their copies: nothing of it is in a checkpoint
    async with stand.learner().running():
        await stand.read(24)
    assert stand.metric("duplicate_impressions_total") + stand.metric("interactions_total", outcome="duplicate") == 6
    async with stand.learner(learner_checkpoint_path=str(tmp_path / "anew")).running():
        await stand.read(24)

    assert len(sent_on(stand)) == 12
    first, second = _state(stand.folder), _state(tmp_path / "anew")
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def _state(folder: Path) -> dict[str, np.ndarray]:
    manifest = checkpoint_files.newest_valid(folder)
    assert manifest is not None
    return checkpoint_files.read(folder, manifest)[0]


def test_a_user_at_home_is_left_alone_and_headers_that_are_too_long_stay_behind() -> None:
    strays = Strays(2)
    event = interaction("user-0")
    large = Record(EVENTS, ELSEWHERE, 5, 0, b"", encode(event), (("trace", b"x" * 900_000),))
    outgoing = strays.outgoing(large, event)
    assert outgoing is not None
    assert outgoing.headers == ((MISROUTED_FROM, b"moard.events/0/5"),)  # or the broker would refuse it for ever
    record = Record(EVENTS, HOME, 0, 0, b"", encode(event))
    assert not strays.strayed(record, event)
    with pytest.raises(BadEvent):
        strays.strayed(Record(EVENTS, ELSEWHERE, 0, 0, b"", b"", ((MISROUTED_FROM, b""),)), event)
