"""The training thread: order, back-pressure, barriers, freshness, and loud failure."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from libs.rl.agent import Agent
from libs.rl.transitions import Consumed, Opened, State
from services.learner.intake import PutContent
from services.learner.schedules import LiveSchedule
from services.learner.trainer import Trainer
from tests.unit.learner.stand import FakeAgent, eventually, training_metrics

Make = Callable[..., Trainer]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    started: list[Trainer] = []

    def start(agent: FakeAgent, queue_changes: int = 100, backlog_ratio: float = 1.0) -> Trainer:
        schedule = LiveSchedule(backlog_ratio)
        trainer = Trainer(cast(Agent, agent), training_metrics(), schedule, queue_changes)
        trainer.start()
        started.append(trainer)
        return trainer

    yield start
    for trainer in started:
        await trainer.stop()


def opened(number: int) -> Opened:
    return Opened(f"i{number}", State(), (1,))


def clicked(number: int) -> Consumed:
    return Consumed(f"i{number}", 1, {"click": 1.0}, True, f"c{number}", 1_000 + number)


async def test_changes_are_applied_in_order_and_contents_between_them(make: Make) -> None:
    agent = FakeAgent()
    trainer = make(agent)

    await trainer.absorb([opened(1), PutContent(7, None, hidden=False), clicked(1)])
    await trainer.absorb([opened(2)])
    await trainer.state()

    assert agent.applied == [opened(1), clicked(1), opened(2)]
    assert agent.contents == [7]


async def test_a_snapshot_contains_everything_absorbed_before_it(make: Make) -> None:
    agent = FakeAgent(batch=1_000)
    trainer = make(agent)
    await trainer.absorb([opened(1), clicked(1)])

    taken = await trainer.snapshot()

    assert taken.trained == [("c1", 1_001)]  # one row is no batch: it gets a gradient of its own all the same
    assert taken.step == 1
    assert taken.loss is not None
    assert taken.q_mean is not None
    later = await trainer.snapshot()
    assert (later.trained, later.loss, later.q_mean) == ([], None, None)  # no update since


async def test_training_goes_on_while_nothing_arrives(make: Make) -> None:
    agent = FakeAgent(batch=2)
    trainer = make(agent)

    await trainer.absorb([opened(number) for number in range(10)])

    await eventually(lambda: agent.samples == 10, "the replay ratio to be reached")
    assert trainer.step == 5


async def test_a_full_queue_makes_the_loop_wait_until_half_of_it_is_gone(make: Make) -> None:
    agent, may_go_on = FakeAgent(), threading.Event()
    agent.gate = lambda: None if may_go_on.wait(10) else pytest.fail("nobody let the thread go on")
    trainer = make(agent, queue_changes=4)
    for number in range(4):
        await trainer.absorb([opened(number)])

    waiting = asyncio.ensure_future(trainer.absorb([opened(5)]))
    await asyncio.sleep(0)
    assert not waiting.done()
    may_go_on.set()
    await waiting
    await trainer.state()

    assert len(agent.applied) == 5


@pytest.mark.parametrize(("backlog_ratio", "samples"), [(1.0, 4), (0.0, 0)])
async def test_a_backlog_is_trained_on_at_its_own_ratio(make: Make, backlog_ratio: float, samples: int) -> None:
    agent, may_go_on, seen = FakeAgent(batch=2), threading.Event(), [0]

    def gate() -> None:
        assert may_go_on.wait(10)
        seen[0] = agent.samples

    agent.gate = gate
    trainer = make(agent, backlog_ratio=backlog_ratio)
    for number in range(3):
        await trainer.absorb([opened(2 * number), opened(2 * number + 1)])
    may_go_on.set()
    await trainer.state()

    assert seen[0] == samples  # when the third piece of work came up, two pieces of two rows were behind it


async def test_what_the_thread_raises_ends_the_loop(make: Make) -> None:
    agent = FakeAgent()
    agent.failure = ZeroDivisionError("a bug")
    trainer = make(agent)
    await trainer.absorb([opened(1)])

    with pytest.raises(RuntimeError, match="the training thread failed") as caught:
        await trainer.snapshot()

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not trainer.alive
    with pytest.raises(RuntimeError):
        await trainer.absorb([])


async def test_a_failure_wakes_a_loop_that_waits_for_room(make: Make) -> None:
    agent, may_go_on = FakeAgent(), threading.Event()

    def gate() -> None:
        assert may_go_on.wait(10)
        raise ZeroDivisionError

    agent.gate = gate
    trainer = make(agent, queue_changes=1)
    await trainer.absorb([opened(1)])
    waiting = asyncio.ensure_future(trainer.absorb([opened(2)]))
    await asyncio.sleep(0)
    may_go_on.set()

    with pytest.raises(RuntimeError):
        await waiting


async def test_an_update_that_is_not_finite_is_said_until_one_is(make: Make) -> None:
    agent = FakeAgent(batch=1)
    agent.finite = False
    trainer = make(agent)
    await trainer.absorb([opened(1)])
    await trainer.state()
    await eventually(lambda: not trainer.sound, "the update")

    agent.finite = True
    await trainer.absorb([opened(2)])
    await eventually(lambda: trainer.sound, "a finite update")


async def test_fresh_rows_are_announced_when_the_ratio_allows_no_batch(make: Make) -> None:
    agent = FakeAgent(batch=1_000)
    trainer = make(agent)
    await trainer.absorb([opened(1)])
    await eventually(lambda: trainer.fresh, "the new row to be noticed")

    await trainer.snapshot()
    await eventually(lambda: not trainer.fresh, "the row to be trained on")
