"""A row that learning cannot survive: dead-lettered, and out of it for good."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from libs.adapters.ports import Record
from libs.events.dead_letters import FIELD, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TIMESTAMP_MS, REASON, letter_of
from libs.events.topics import DEAD_LETTERS, partition_of
from libs.rl.agent import Agent
from libs.rl.poison import Poisoned
from libs.rl.replay import key_of
from services.learner.assembly import Learner
from services.learner.attribution import Arrival, Attribution
from services.learner.ledger import read_ledger
from services.learner.poisoned import letters_of
from services.learner.windows import JoinRules
from tests.builders import NOW_MS, content, impression, interaction
from tests.unit.learner.stand import Stand, eventually

CLICKS = 12


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path, learner_batch_size=8)


def append_sessions(stand: Stand, first: int, count: int) -> None:
    for number in range(first, first + count):
        user_id = f"user-{number % 3}"
        stand.append(
            impression(user_id, (1, 2, 3), event_id=f"i{number}"),
            interaction(user_id, 1 + number % 3, event_id=f"c{number}", impression_id=f"i{number}"),
        )


async def plant(learner: Learner, ruin: str) -> None:
    """Ruin the row of i5 in the training thread, as a fault of the memory would."""

    def spoil(agent: Agent) -> None:
        slot = agent.replay.slot(key_of("i5"))
        assert slot is not None
        if ruin == "context":
            agent.replay.columns["context"][slot, 0] = np.nan
        else:
            agent.space._vectors[agent.space.at(2)] = np.nan

    assert learner._parts is not None
    await learner._parts.trainer._ask(spoil)


async def rows_alive(learner: Learner) -> tuple[bool, int]:
    assert learner._parts is not None
    return await learner._parts.trainer._ask(
        lambda agent: (key_of("i5") in agent.replay, int(np.isnan(agent.space.vectors).sum()))
    )


def letters(stand: Stand) -> list[Record]:
    return [each for each in stand.log.records(DEAD_LETTERS) if dict(each.headers)[REASON] == b"poison"]


@pytest.mark.parametrize("ruin", ["context", "vector"])
async def test_a_poisoned_row_is_a_dead_letter_and_learning_goes_on(stand: Stand, ruin: str) -> None:
    stand.append(*[content(number, embedding=(1.0, 0.5, 0.0, float(number))) for number in (1, 2, 3)])
    append_sessions(stand, 0, 6)
    learner = stand.learner()
    async with learner.running():
        await stand.read(15)
        await plant(learner, ruin)
        append_sessions(stand, 6, 6)
        await eventually(lambda: letters(stand), "a dead letter")
        before = stand.metric("updates_total")
        append_sessions(stand, 12, 6)
        await stand.read(39)
        await eventually(lambda: stand.metric("updates_total") > before, "learning to go on")
        in_buffer, not_finite = await rows_alive(learner)
        assert not_finite == 0
        assert ruin == "vector" or not in_buffer

    found = letters(stand)
    assert stand.metric("dead_letters_total", reason="poison") == len(found)
    assert stand.metric("weights_restored_total") >= 1
    assert stand.metric("alarm", alarm="divergence") == 0
    assert stand.metric("interactions_total", outcome="joined") == 18  # what a row taught is not what became of them
    assert stand.total("interactions_total") == 18
    assert len(read_ledger(stand.folder)) == 36
    if ruin == "context":
        documents = [orjson.loads(letter.value or b"") for letter in found]
        named = next(document for document in documents if document["impression_id"] == "i5")
        assert (named["user_id"], named["slate"], named["not_finite"]) == ("user-2", [1, 2, 3], ["context"])

    again = stand.learner()
    async with again.running():
        in_buffer, _ = await rows_alive(again)
        assert ruin == "vector" or not in_buffer
        append_sessions(stand, 18, 6)
        await stand.read(51)
        await eventually(lambda: stand.metric("updates_total") > 0, "learning to go on")
    assert letters(stand) == found  # it stays out: none is found twice
    assert stand.metric("weights_restored_total") == 0


def test_the_letter_says_what_is_known_of_the_impression() -> None:
    attribution = Attribution(JoinRules())
    attribution.observe([Arrival(0, NOW_MS, impression("user-1", event_id="i1"))])
    row = Poisoned(key_of("i1"), False, (1, 2), (7,), (("c1", NOW_MS + 9),), ("age_h",), (2,), 41)
    (outgoing,) = letters_of([row], attribution, 4)
    headers = dict(outgoing.headers)
    assert outgoing.key == b"user-1"
    assert headers[ORIGIN_PARTITION] == str(partition_of(b"user-1", 4)).encode()
    assert headers[ORIGIN_TIMESTAMP_MS] == str(NOW_MS).encode()
    assert ORIGIN_OFFSET not in headers
    assert headers[FIELD] == b"age_h, vector of content 2"
    assert orjson.loads(outgoing.value or b"") == {
        "type": "row",
        "impression_id": "i1",
        "user_id": "user-1",
        "organic": False,
        "slate": [1, 2],
        "history": [7],
        "event_ids": ["c1"],
        "not_finite": ["age_h", "vector of content 2"],
        "step": 41,
    }


def test_of_what_the_join_has_forgotten_the_letter_names_the_events() -> None:
    row = Poisoned(5, True, (1,), (), (("organic:c1", NOW_MS),), ("terms",), (), 3)
    (outgoing,) = letters_of([row], Attribution(JoinRules()), 4)
    letter = letter_of(0, 0, 0, outgoing.key, outgoing.value, outgoing.headers)
    assert (letter.key, letter.origin[1:], letter.origin_ms) == (None, (-1, -1), NOW_MS)
    assert orjson.loads(letter.value or b"")["event_ids"] == ["c1"]
