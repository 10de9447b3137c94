"""Kafka's own tool, the metrics, the console and ``moard lag`` tell the same lag, with a learner and without."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer
from libs.adapters.ports import Outgoing
from libs.events.codec import encode
from libs.events.topics import EVENTS, HISTORY_GROUP, LEARNER_GROUP, user_key
from tests.builders import impression

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

DEADLINE_S = 90.0
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
ROUND = 50
Lag = dict[tuple[str, str], int]


def told_by_kafka(stack: LocalStack) -> dict[str, Lag]:
    """Return the column LAG of both groups by topic and partition."""
    groups = ["--group", LEARNER_GROUP, "--group", HISTORY_GROUP]
    address = stack.addresses.kafka_bootstrap_servers
    printed = stack.kafka.run_tool(TOOL, "--bootstrap-server", address, "--describe", *groups)
    rows = [line.split() for line in printed.splitlines()]
    header = next((row for row in rows if row[:1] == ["GROUP"]), [])
    told: dict[str, Lag] = {LEARNER_GROUP: {}, HISTORY_GROUP: {}}
    for row in (dict(zip(header, row, strict=False)) for row in rows if row[:1] in ([LEARNER_GROUP], [HISTORY_GROUP])):
        told[row["GROUP"]][row["TOPIC"], row["PARTITION"]] = int(row["LAG"]) if row["LAG"].isdecimal() else -1
    return told


def told_by_metrics(service: ServiceProcess, name: str, **labels: str) -> Lag:
    """Return a gauge by topic and partition."""
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    return {
        (sample.labels["topic"], sample.labels["partition"]): int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    }


def told_by_console(serving: ServiceProcess) -> int | None:
    """Return what the newest look sums up: all that the learner has not read, or its last checkpoint does not hold."""
    with httpx.stream("GET", f"{serving.url}/ui/stream", timeout=20) as stream:
        looks = (line.removeprefix("data: ") for line in stream.iter_lines() if '"point"' in line)
        records = orjson.loads(next(looks))["point"]["lag_records"]
    return None if records is None else int(records)


def by_group(table: str) -> dict[str, Lag]:
    """Return what ``moard lag --json`` printed."""
    told: dict[str, Lag] = {LEARNER_GROUP: {}, HISTORY_GROUP: {}}
    for row in orjson.loads(table):
        told[row["group"]][row["topic"], str(row["partition"])] = row["records"]
    return told


def total(lag: Lag) -> int:
    return sum(lag.values())


@contextlib.contextmanager
def moard_lag(environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    # What is started in the background may have inherited to ignore an interrupt.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "services.cli", "lag", "--json", *options]
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as process:
        yield process


def told_by_command(environment: dict[str, str]) -> dict[str, Lag]:
    with moard_lag(environment) as process:
        table, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return by_group(table)


async def eventually(ask: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await asyncio.to_thread(ask):
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s for: {what}"
        await asyncio.sleep(0.2)


async def append(stack: LocalStack, count: int) -> None:
    producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    shown = [impression(f"user-{number % 30}", timestamp_ms=None) for number in range(count)]
    assert all(await producer.append([Outgoing(EVENTS, user_key(each.user_id), encode(each)) for each in shown], 20))
    await producer.stop()


@dataclass
class World:
    """A stack, the three services on it, and what each of them tells."""

    stack: LocalStack
    environment: dict[str, str]
    ingest: ServiceProcess
    serving: ServiceProcess
    learner: ServiceProcess

    def told_by_services(self) -> dict[str, Lag]:
        return {
            LEARNER_GROUP: told_by_metrics(self.learner, "moard_learner_consumer_lag_records"),
            HISTORY_GROUP: self.told_by_projector(),
        }

    def told_by_projector(self) -> Lag:
        return told_by_metrics(self.ingest, "moard_projector_consumer_lag_records")

    def mirrored(self) -> dict[str, Lag]:
        groups = (LEARNER_GROUP, HISTORY_GROUP)
        return {group: told_by_metrics(self.ingest, "kafka_consumergroup_lag", consumergroup=group) for group in groups}

    async def agree_on(self, of_learner: int, of_projector: int, *, learning: bool = True) -> None:
        wanted = {LEARNER_GROUP: of_learner, HISTORY_GROUP: of_projector}

        def agree() -> bool:  # on the sums too: a gauge says 0 until the first records have been seen
            told = told_by_kafka(self.stack)
            return (
                {group: total(lag) for group, lag in told.items()} == wanted
                and told == self.mirrored()
                and (not learning or told == self.told_by_services())
                and told == told_by_command(self.environment)
                and told_by_console(self.serving) == of_learner
            )

        await eventually(agree, f"all to agree on {wanted}")


@pytest.fixture
async def world(
    fresh_stack: Callable[..., LocalStack], services: Callable[..., ServiceProcess], tmp_path: Path
) -> World:
    stack = fresh_stack(database=False)
    await asyncio.to_thread(upgrade, stack.addresses.database_url)
    environment = stack.addresses.environment() | {
        "MOARD_LEARNER_CHECKPOINT_PATH": str(tmp_path / "checkpoints"),
        "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.5",
        "MOARD_LEARNER_CAPACITY": "1000",
        "MOARD_LEARNER_SCHEDULE": "log",  # what is beyond the last whole round waits
        "MOARD_LEARNER_ROUND_RECORDS": str(ROUND),
        "MOARD_LEARNER_LEARNING_STARTS": "900",
    }
    started = [await asyncio.to_thread(services, name, environment) for name in ("ingest", "serving", "learner")]
    return World(stack, environment, *started)


async def test_everything_that_tells_lag_agrees(world: World) -> None:
    await append(world.stack, 3 * ROUND)
    await world.agree_on(0, 0)

    await append(world.stack, 20)
    await world.agree_on(20, 0)  # not a whole round: it waits

    await asyncio.to_thread(world.learner.stop)  # its group keeps what the last checkpoint holds
    await append(world.stack, 5)
    await world.agree_on(25, 0, learning=False)

    with moard_lag(world.environment, "--watch") as watch:
        assert watch.stdout is not None
        lines = iter(watch.stdout)
        assert total(by_group(await asyncio.to_thread(next, lines))[LEARNER_GROUP]) == 25
        await append(world.stack, 5)
        await eventually(lambda: total(by_group(next(lines))[LEARNER_GROUP]) == 30, "the next lines to tell of more")
        watch.send_signal(signal.SIGINT)
    assert watch.returncode == 0


async def test_the_projectors_lag_agrees_while_it_cannot_write(world: World) -> None:
    await append(world.stack, 3 * ROUND)
    await world.agree_on(0, 0)
    await asyncio.to_thread(world.stack.redis.kill)
    await append(world.stack, ROUND + 20)

    def agree() -> bool:
        told = told_by_kafka(world.stack)
        sums = {group: total(lag) for group, lag in told.items()}
        wanted = {LEARNER_GROUP: 20, HISTORY_GROUP: ROUND + 20}
        return sums == wanted and told == world.told_by_services() == world.mirrored()

    await eventually(agree, "all to agree on what waits")
    await asyncio.to_thread(world.stack.redis.start)
