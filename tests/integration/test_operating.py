"""What operators do from the command line, beside a learner that runs on real Kafka and Redis."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.kafka_server import KafkaServer
from infra.local import LocalStack
from infra.migrations import upgrade
from libs.adapters.ports import Visit
from libs.adapters.user_history import RedisUserHistory
from libs.events.topics import EVENTS, LEARNER_GROUP
from services.cli.lag import Behind, asking
from tests.builders import impression, interaction
from tests.integration.test_learner import PARTITIONS, Stage

pytestmark = pytest.mark.stack


@pytest.fixture
def stack(fresh_stack: Callable[..., LocalStack]) -> LocalStack:
    return fresh_stack(database=False)


@pytest.fixture
def stage(stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a stage that this process's settings name too."""
    found = Stage(stack, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    upgrade(stack.addresses.database_url)
    return found


@asynccontextmanager
async def opened(stage: Stage) -> AsyncIterator[None]:
    await stage.open()
    try:
        yield
    finally:
        stage.learner.stop()
        await stage.close()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def refused(*arguments: str) -> str:
    """Run a command that is refused and return what it says."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def moard(*arguments: str) -> Any:
    """Run a command and return what it prints, read as JSON where it is."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return done.stdout


async def lags() -> list[Behind]:
    async with asking() as ask:
        return [each for each in await ask() if (each.group, each.topic) == (LEARNER_GROUP, EVENTS)]


def seen_by_kafka(stack: LocalStack) -> dict[int, tuple[int, int, int]]:
    """Return what Kafka's own tool says: committed, end and lag by partition."""
    (kafka,) = [server for server in stack.servers if isinstance(server, KafkaServer)]
    tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    said = kafka.run_tool(tool, "--bootstrap-server", kafka.address, "--describe", "--group", LEARNER_GROUP)
    rows = [line.split() for line in said.splitlines() if f" {EVENTS} " in line]
    return {int(row[2]): (int(row[3]), int(row[4]), int(row[5])) for row in rows}


async def test_lag_is_that_of_kafkas_own_tool_and_of_the_metrics(stage: Stage, stack: LocalStack) -> None:
    async with opened(stage):
        await stage.start()
        await stage.stream(range(40))
        await stage.read()
        deadline = asyncio.get_running_loop().time() + 30
        while sum((await stage.committed()).values()) < stage.appended:  # the checkpoint after that
            assert asyncio.get_running_loop().time() < deadline

        found = await lags()
        theirs = await asyncio.to_thread(seen_by_kafka, stack)
        assert {each.partition: (each.committed, each.end, each.records) for each in found} == theirs
        assert len(found) == PARTITIONS
        assert sum(each.records for each in found) == stage.metric("consumer_lag_records", topic=EVENTS) == 0
        assert all(each.seconds == 0 for each in found)

        stage.learner.stop()
        await stage.stream(range(40, 50))
        found = await lags()
        theirs = await asyncio.to_thread(seen_by_kafka, stack)
        assert {each.partition: (each.committed, each.end, each.records) for each in found} == theirs
        assert sum(each.records for each in found) == 20
        assert all(each.seconds is not None and (each.seconds > 0) == (each.records > 0) for each in found)


async def test_a_user_is_exported_and_forgotten(stage: Stage) -> None:
    history = RedisUserHistory(stage.addresses.redis_url)
    async with opened(stage):
        for user in ("ann", "bob"):
            shown = impression(user, (1, 2, 3), event_id=f"i-{user}", timestamp_ms=None)
            click = interaction(user, 2, event_id=f"c-{user}", impression_id=f"i-{user}", timestamp_ms=None)
            await stage.append(shown, click)
            await history.append([(user, Visit(f"c-{user}", 2, 1))])
        await stage.start()
        await stage.read()
        stage.learner.stop()

        kept = await asyncio.to_thread(moard, "user", "export", "ann")
        assert [each["event"]["event_id"] for each in kept["events"]] == ["i-ann", "c-ann"]
        assert [each["content_id"] for each in kept["history"]["visits"]] == [2]
        (row,) = kept["learner"]["rows"]
        assert (row["slate"], row["interactions"]) == ([1, 2, 3], [{"content_id": 2, "terms": {"click": 1.0}}])
        (story,) = kept["learner"]["waiting"]["stories"]
        assert [each["impression_id"] for each in story["impressions"]] == ["i-ann"]

        gone = await asyncio.to_thread(moard, "user", "delete", "ann", "--json")
        assert gone["stays"] == ["weights"]
        week = datetime.now(UTC) + timedelta(hours=168)
        assert all(datetime.fromisoformat(moment) > week for moment in gone["log_gone_by"].values())
        assert await history.recent("ann", 10) == []
        stage.appended += 1
        await stage.start()
        await stage.read()
        stage.learner.stop()

        kept = await asyncio.to_thread(moard, "user", "export", "ann")
        assert kept["learner"] | {"checkpoint": ""} == {
            "checkpoint": "",
            "rows": [],
            "waiting": {"stories": [], "closed_impressions": []},
        }
        assert kept["history"] == {"seen": False, "visits": []}
        assert kept["events"][-1]["event"]["type"] == "erasure"
        assert kept["events"][-1]["offset"] == gone["until"] - 1
        other = await asyncio.to_thread(moard, "user", "export", "bob")
        assert (len(other["learner"]["rows"]), len(other["history"]["visits"])) == (1, 1)
    await history.close()


async def test_a_snapshot_is_kept_pinned_and_let_go(stage: Stage) -> None:
    async with opened(stage):
        await stage.start()
        await stage.stream(range(20))
        await stage.eventually(lambda: stage.metric("snapshot_version") > 0, "a snapshot")
        stage.learner.stop()
        newest = (await asyncio.to_thread(moard, "model", "list", "--json"))[0]["version"]

        assert str(newest) in await asyncio.to_thread(moard, "model", "keep", "good")
        await asyncio.to_thread(moard, "model", "pin", "good")
        pinned = await stage.store.mirrored()
        assert pinned is not None
        assert (pinned.name, pinned.version) == ("good", newest)
        assert pinned.changed_by.startswith("cli:")
        assert "pinned" in await asyncio.to_thread(refused, "model", "delete", "good", "--yes")
        (listed,) = [each for each in await asyncio.to_thread(moard, "model", "list", "--json") if each["pinned"]]
        assert (listed["version"], listed["names"]) == (newest, ["good"])

        await asyncio.to_thread(moard, "model", "unpin")
        await asyncio.to_thread(moard, "model", "delete", "good", "--yes")
        assert all(each["names"] == [] for each in await asyncio.to_thread(moard, "model", "list", "--json"))
        assert "no-such" in await asyncio.to_thread(refused, "model", "pin", "no-such")
