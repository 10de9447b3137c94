"""The background producer: bounded, in order, and honest about what it lost."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.memory import MemoryLog, MemoryProducer
from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import Outgoing, TopicSpec
from libs.events.topics import CONTENTS, EVENTS
from services.serving import outbox as module
from services.serving.outbox import Outbox
from tests.unit.serving.world import until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.001)


class Setting:
    def __init__(self, capacity: int = 100) -> None:
        self.log = MemoryLog()
        for topic in (EVENTS, CONTENTS):
            self.log.create(TopicSpec(topic, 1))
        self.registry = CollectorRegistry()
        self.outbox = Outbox(MemoryProducer(self.log), ServingMetrics(self.registry), capacity, 1.0)

    def values(self, topic: str = EVENTS) -> list[bytes | None]:
        return [record.value for record in self.log.records(topic)]

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0


def event(number: int) -> Outgoing:
    return Outgoing(EVENTS, b"user", str(number).encode())


async def test_everything_arrives_in_order_before_run_returns() -> None:
    s = Setting(capacity=2_000)
    for number in range(1_200):
        assert s.outbox.offer(event(number))
    s.outbox.close()
    await s.outbox.run()
    assert s.values() == [str(number).encode() for number in range(1_200)]
    assert s.metric("moard_serving_impressions_total") == 1_200
    assert len(s.outbox) == 0


async def test_what_comes_while_it_runs_is_sent_without_waiting() -> None:
    s = Setting()
    running = asyncio.create_task(s.outbox.run())
    for number in range(3):
        s.outbox.offer(event(number))
        await until(lambda: len(s.values()) == number + 1)  # noqa: B023
    s.outbox.close()
    await running


async def test_a_full_buffer_drops_and_counts() -> None:
    s = Setting(capacity=2)
    assert [s.outbox.offer(event(number)) for number in range(4)] == [True, True, False, False]
    assert s.metric("moard_serving_impressions_pending") == 2
    assert s.metric("moard_serving_impressions_dropped_total") == 2


async def test_a_refused_impression_is_counted_a_refused_content_is_sent_again() -> None:
    s = Setting()
    running = asyncio.create_task(s.outbox.run())
    await asyncio.sleep(0)  # started while the broker was there
    s.log.available = False
    s.outbox.offer(event(1))
    s.outbox.offer(Outgoing(CONTENTS, b"1", b"content"))
    await until(lambda: s.metric("moard_serving_impressions_dropped_total") == 1)
    assert s.values(CONTENTS) == []
    s.log.available = True
    await until(lambda: s.values(CONTENTS) == [b"content"])
    assert s.values() == []
    s.outbox.close()
    await running


async def test_a_broker_that_refuses_is_away_until_it_takes_something() -> None:
    s = Setting()
    running = asyncio.create_task(s.outbox.run())
    await asyncio.sleep(0)
    assert not s.outbox.unanswered
    s.log.available = False
    s.outbox.offer(event(1))
    await until(lambda: s.outbox.unanswered)
    s.log.available = True
    s.outbox.offer(event(2))
    await until(lambda: not s.outbox.unanswered)
    s.outbox.close()
    await running


async def test_a_broker_that_is_not_there_at_the_start_is_away() -> None:
    s = Setting()
    s.log.available = False
    running = asyncio.create_task(s.outbox.run())
    await until(lambda: s.outbox.unanswered)
    s.log.available = True
    await until(lambda: not s.outbox.unanswered)
    s.outbox.close()
    await running


async def test_a_broker_that_says_nothing_is_away_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    s, healed = Setting(), asyncio.Event()
    taken = MemoryProducer.append

    async def late(self: MemoryProducer, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        await healed.wait()
        return await taken(self, records, timeout_s)

    monkeypatch.setattr(module, "_PROMPT_S", 0.01)
    monkeypatch.setattr(MemoryProducer, "append", late)
    running = asyncio.create_task(s.outbox.run())
    s.outbox.offer(event(1))
    await until(lambda: s.outbox.unanswered)
    assert s.metric("moard_serving_impressions_dropped_total") == 0
    healed.set()
    await until(lambda: not s.outbox.unanswered)
    s.outbox.close()
    await running


async def test_what_is_left_at_the_end_is_counted_as_lost() -> None:
    s = Setting()
    s.log.available = False
    running = asyncio.create_task(s.outbox.run())
    s.outbox.offer(event(1))
    s.outbox.close()
    await asyncio.wait([running], timeout=0.05)
    running.cancel()
    await asyncio.wait([running])
    await s.outbox.stop()
    assert s.metric("moard_serving_impressions_dropped_total") == 1
    assert not s.outbox.offer(event(2))
