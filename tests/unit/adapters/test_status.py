"""Publishing a status, and the numbers in it."""

import asyncio
import math
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import SecretStr

from libs.adapters.figures import by_label, by_labels, distribution, value
from libs.adapters.settings import StackSettings, in_force
from libs.adapters.status import MemoryStatusBoard, Rates, StatusPublisher, instance_of
from libs.errors import StoreUnavailable


class AwayBoard(MemoryStatusBoard):
    """A board that may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.heard = asyncio.Event()

    async def put(self, service: str, instance: str, status: bytes) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().put(service, instance, status)
        self.heard.set()

    async def remove(self, service: str, instance: str) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().remove(service, instance)


class Stand:
    """A publisher, its board and its counter."""

    def __init__(self, **status: Any) -> None:
        self.board = AwayBoard()
        self.failures = Counter("failures", "", registry=CollectorRegistry())
        self.status: dict[str, Any] = status
        self.publisher = StatusPublisher(self.board, "learner", "here:1", self.describe, {"MOARD_X": 1}, self.failures)

    async def describe(self) -> dict[str, Any]:
        return self.status

    async def heard(self) -> None:
        async with asyncio.timeout(10):
            await self.board.heard.wait()

    async def posted(self) -> list[dict[str, Any]]:
        return [orjson.loads(posted.status) for posted in await self.board.all()]


async def test_a_status_says_who_speaks_and_what_is_in_force() -> None:
    stand = Stand(lag=3, drain_s=math.inf, q=math.nan)
    await stand.publisher.publish()
    [status] = await stand.posted()
    assert status["service"] == "learner"
    assert status["instance"] == "here:1"
    assert status["version"]
    assert status["settings"] == {"MOARD_X": 1}
    assert status["at_ms"] >= status["started_ms"] > 0
    assert (status["lag"], status["drain_s"], status["q"]) == (3, None, None)


async def test_a_board_that_is_away_is_counted_and_nothing_else_happens() -> None:
    stand = Stand()
    stand.board.away = True
    for _ in range(3):
        await stand.publisher.publish()
    assert value(stand.failures) == 3
    stand.board.away = False
    await stand.publisher.publish()
    assert len(await stand.posted()) == 1
    assert value(stand.failures) == 3


async def test_a_status_that_cannot_be_told_does_not_end_the_service() -> None:
    stand = Stand(wrong=object())
    await stand.publisher.publish()
    assert value(stand.failures) == 1
    stand.status = {}
    await stand.publisher.publish()
    assert len(await stand.posted()) == 1


@pytest.mark.parametrize("away", [False, True])
async def test_the_end_of_a_service_takes_its_status_away(away: bool) -> None:
    stand = Stand()
    running = asyncio.create_task(stand.publisher.run())
    await stand.heard()
    stand.board.away = away
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert len(await stand.posted()) == away


def test_rates_are_of_the_last_seconds_and_never_negative() -> None:
    moments = iter([0.0, 1.0, 4.0, 11.0, 12.0])
    rates: Rates[str] = Rates(over_s=10.0, clock_s=lambda: next(moments))
    assert rates.per_s({"a": 100.0}) == {"a": 0.0}
    assert rates.per_s({"a": 102.0, "new": 5.0}) == {"a": 2.0, "new": 0.0}
    assert rates.per_s({"a": 120.0})["a"] == 5.0
    assert rates.per_s({"a": 122.0})["a"] == 2.0  # since the second look: the first is too long ago
    assert rates.per_s({"a": 0.0})["a"] == 0.0  # begins anew after a restart


def test_figures_are_what_the_metrics_say() -> None:
    registry = CollectorRegistry()
    counter = Counter("events_total", "", ["result"], registry=registry)
    counter.labels("kept").inc(2)
    gauge = Gauge("lag", "", ["topic", "partition"], registry=registry)
    gauge.labels("t", "10").set(7)
    plain = Gauge("rows", "", registry=registry)
    plain.set(4)
    seconds = Histogram("seconds", "", buckets=(0.5, 1.0), registry=registry)
    for observed in (0.1, 0.7, 30.0):
        seconds.observe(observed)
    assert by_label(counter) == {"kept": 2.0}
    assert by_labels(gauge) == {("t", "10"): 7.0}
    assert value(plain) == 4.0
    assert distribution(seconds) == {"bounds_s": [0.5, 1.0], "counts": [1, 2, 3], "sum_s": pytest.approx(30.8)}


def test_settings_in_force_name_their_variables_and_keep_their_secrets() -> None:
    settings = StackSettings(
        _env_file=None,
        redis_url="rediss://user:hush@redis.internal:6380/2?password=hush",
        database_url="mysql+asyncmy://moard:hush@db.internal/moard",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_username="moard",
        kafka_sasl_password=SecretStr("hush"),
    )
    shown = in_force(settings)
    assert shown["REDIS_URL"] == "rediss://redis.internal:6380/2"
    assert shown["DATABASE_URL"] == "mysql+asyncmy://db.internal/moard"
    assert shown["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092"
    assert shown["MOARD_KAFKA_SASL_PASSWORD"] == "*" * 10
    assert shown["MOARD_EVENTS_PARTITIONS"] == 4
    assert "hush" not in orjson.dumps(shown).decode()


def test_an_instance_keeps_its_name_where_its_port_is_set() -> None:
    assert instance_of(8002) == instance_of(8002) != instance_of(8003)
    assert instance_of(8000, 1).endswith(":8000/1")
    assert not instance_of(0).endswith(":0")
