"""``moard events`` and ``moard rebuild`` as commands, on a real broker, Redis and database."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ROOT
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.model_store import SqlModelStore
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.events.codec import encode
from libs.events.topics import CONTENTS, EVENTS, content_key, user_key
from tests.builders import content, impression, interaction

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PARTITIONS = 4
REQUESTS = 60


async def fill(stack: LocalStack) -> None:
    admin = KafkaTopicAdmin(stack.addresses.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(StackSettings(events_partitions=PARTITIONS)))
    await admin.close()
    producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    records = [
        Outgoing(CONTENTS, content_key(number), encode(content(number, embedding=(1.0, 0.0, 0.5, float(number)))))
        for number in range(1, 4)
    ]
    for number in range(REQUESTS):
        shown = impression(f"user-{number % 11}", event_id=f"i{number}", timestamp_ms=None)
        click = interaction(shown.user_id, 1, event_id=f"c{number}", impression_id=f"i{number}", timestamp_ms=None)
        records += [Outgoing(EVENTS, user_key(shown.user_id), encode(event)) for event in (shown, click)]
    assert all(await producer.append(records, 30))
    await producer.stop()


async def test_events_are_moved_and_learned_again(fresh_stack: Callable[..., LocalStack], tmp_path: Path) -> None:
    stack = fresh_stack(database=False)
    await asyncio.to_thread(upgrade, stack.addresses.database_url)
    await fill(stack)
    environment = {
        **os.environ,
        **stack.addresses.environment(),
        "PYTHONPATH": str(ROOT),
        "MOARD_VECTOR_SIZE": "4",
        "MOARD_LEARNER_LEARNING_STARTS": "10",
        "MOARD_LEARNER_BATCH_SIZE": "8",
        "MOARD_LEARNER_CAPACITY": "1000",
        "MOARD_LEARNER_REPLAY_RATIO": "2",
    }

    def moard(*arguments: str) -> str:
        command = [sys.executable, "-m", "services.cli", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert f"{2 * REQUESTS} events written" in moard("events", "export", "events.jsonl.gz")
    again = moard("events", "import", "events.jsonl.gz")
    assert f"0 events appended, {2 * REQUESTS} were there already, 0 lines cannot be used." in again

    first = moard("rebuild", "--model", "again", "--seed", "3")
    other = moard("rebuild", "--model", "other", "--seed", "3", "--file", "events.jsonl.gz")
    assert f"{2 * REQUESTS} events learned" in first
    assert re.findall(r"weights (\w{64})", first) == re.findall(r"weights (\w{64})", other) != []

    version = int(re.findall(r"snapshot (\d+) of model line again", first)[0])
    line = RedisSnapshotStore(stack.addresses.redis_url, "again")
    live = RedisSnapshotStore(stack.addresses.redis_url, "moard")
    models = SqlModelStore(stack.addresses.database_url, "moard")
    current = await line.current()
    assert current is not None
    assert current.version == version
    assert await live.current() is None
    assert {kept.name: kept.meta.sha256 for kept in await models.kept()}["again"] == current.sha256
    await line.close()
    await live.close()
    await models.close()
