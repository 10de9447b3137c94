"""What the training thread makes of a real agent: a click is in the very next update, and a log decides the updates."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from libs.rl.agent import Agent, Report
from libs.rl.replay import Replay, key_of
from libs.rl.sampling import sample
from libs.rl.settings import AgentSettings
from libs.rl.transitions import Closed, Consumed, Opened, RowChange, State
from services.learner.intake import PutContent
from services.learner.schedules import LiveSchedule, LogSchedule, Schedule
from services.learner.trainer import Change, Trainer
from tests.unit.learner.stand import eventually, training_metrics

BATCH = 8
ROWS = 200
CAPACITY = 64

Make = Callable[[Agent, Schedule], Trainer]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    started: list[Trainer] = []

    def start(agent: Agent, schedule: Schedule) -> Trainer:
        trainer = Trainer(agent, training_metrics(), schedule, 10_000)
        trainer.start()
        started.append(trainer)
        return trainer

    yield start
    for trainer in started:
        await trainer.stop()


def agent_of(**settings: Any) -> Agent:
    defaults: dict[str, Any] = {"learning_starts": 1, "capacity": CAPACITY, "batch_size": BATCH, "replay_ratio": 1.0}
    agent = Agent(AgentSettings(**(defaults | settings)), vector_size=4, seed=3)
    rng = np.random.default_rng(0)
    for content_id in range(1, 10):
        agent.put_content(content_id, rng.normal(size=4))
    return agent


def opened(name: str) -> Opened:
    return Opened(name, State((5,), (60.0,)), (1, 2, 3, 4))


def click(name: str, content_id: int = 3) -> Consumed:
    return Consumed(name, content_id, {"click": 1.0}, True, f"click on {name}", 1_000)


def sessions(numbers: range) -> list[Change]:
    """Rows that are closed and hold a click: everything a batch could be filled with."""
    changes: list[RowChange] = []
    for number in numbers:
        changes += [opened(f"r{number}"), click(f"r{number}", 1 + number % 4), Closed(f"r{number}")]
    return list(changes)


async def settled(trainer: Trainer, agent: Agent) -> None:
    """Return once everything absorbed is applied and trained on as far as the replay ratio allows."""
    await trainer.state()
    await eventually(lambda: not agent.due(), "the replay ratio to be reached")
    await trainer.state()  # the update that made it so has ended


@dataclass(frozen=True)
class Update:
    """One update: the slots of its batch, its choice loss, and the bias of each position after it."""

    slots: list[int]
    choice_loss: float
    rank_bias: np.ndarray


class Watched:
    """An agent whose updates are noted."""

    def __init__(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        self.agent = agent
        self.updates: list[Update] = []
        update = agent.update
        drawn: list[list[int]] = []

        def noted_sample(replay: Replay, size: int, rng: np.random.Generator, recent_share: float) -> np.ndarray:
            slots = sample(replay, size, rng, recent_share)
            drawn.append(slots.tolist())
            return slots

        def noted_update(size: int | None = None) -> Report:
            report = update(size)
            bias = agent.network.rank_bias.detach().numpy().copy()
            self.updates.append(Update(drawn[-1], report.loss["choice"], bias))
            return report

        monkeypatch.setattr("libs.rl.agent.sample", noted_sample)
        monkeypatch.setattr(agent, "update", noted_update)

    def slot(self, name: str) -> int:
        slot = self.agent.replay.slot(key_of(name))
        assert slot is not None
        return slot


@pytest.mark.parametrize(
    "others", [0, 3, 5 * BATCH], ids=["nothing else new", "a few others new", "batches of others new"]
)
async def test_a_click_is_in_the_very_next_update(make: Make, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    watched = Watched(agent_of(), monkeypatch)
    trainer = make(watched.agent, LiveSchedule(backlog_ratio=1.0))
    await trainer.absorb([*sessions(range(ROWS)), opened("clicked")])
    await settled(trainer, watched.agent)
    before = len(watched.updates)
    assert watched.agent.rows == CAPACITY  # and all but one train something
    assert watched.agent.replay.eligible_rows == CAPACITY - 1

    await trainer.absorb([*sessions(range(ROWS, ROWS + others)), click("clicked")])
    taken = await trainer.snapshot()

    assert watched.slot("clicked") in watched.updates[before].slots
    assert ("click on clicked", 1_000) in taken.trained


@pytest.mark.parametrize("schedule", ["live", "log"])
async def test_the_next_update_is_about_what_was_clicked(
    make: Make, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    async def update_after(clicked: int | None) -> Update:
        watched = Watched(agent_of(), monkeypatch)
        trainer = make(watched.agent, LiveSchedule(1.0) if schedule == "live" else LogSchedule(BATCH))
        await trainer.absorb([*sessions(range(ROWS)), opened("clicked")])
        await settled(trainer, watched.agent)
        before = len(watched.updates)
        clicks = [] if clicked is None else [click("clicked", clicked)]
        await trainer.absorb([*sessions(range(ROWS, ROWS + BATCH)), *clicks])
        await eventually(lambda: len(watched.updates) > before, "an update")
        return watched.updates[before]

    second, fourth, nothing = await update_after(2), await update_after(4), await update_after(None)

    assert second.slots == fourth.slots != nothing.slots
    assert len({second.choice_loss, fourth.choice_loss, nothing.choice_loss}) == 3
    moved = second.rank_bias - fourth.rank_bias  # the choice loss alone reaches it; all else was the same
    assert moved[1] > 0 > moved[3]


async def test_with_schedule_log_snapshots_and_waiting_work_leave_no_trace(make: Make) -> None:
    def rounds() -> list[list[Change]]:
        contents = [PutContent(number, (1.0, 0.0, 0.0, number / 4_000), hidden=False) for number in range(100, 4_000)]
        pieces = [contents[:1_000], contents[1_000:1_100], contents[1_100:]]
        return [[*piece, *sessions(range(20 * at, 20 * at + 20))] for at, piece in enumerate(pieces)]

    slow, quick = agent_of(learning_starts=50), agent_of(learning_starts=50)
    watched = make(slow, LogSchedule(BATCH))
    for changes in rounds():
        await watched.absorb(changes)
        await watched.snapshot()
    at_once = make(quick, LogSchedule(BATCH))
    for changes in rounds():
        await at_once.absorb(changes)

    (ours, meta), (theirs, their_meta) = await watched.state(), await at_once.state()

    assert meta == their_meta
    assert meta["updates"] == 60 // BATCH
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
