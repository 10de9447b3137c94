"""``moard evaluate`` over a real topic, with a snapshot in a real Redis."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from infra.local import LocalStack
from infra.services import ROOT
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing, SnapshotMeta
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.events.codec import encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, EVENTS, content_key, partition_of, user_key
from libs.rl.slates import Exploration
from libs.rl.snapshot import arch
from libs.rl.snapshot import encode as encode_snapshot
from tests.builders import drawn, interaction
from tests.snapshots import random_snapshot

pytestmark = pytest.mark.stack

PARTITIONS = 4
REQUESTS = 600


@pytest.fixture
async def evaluate(fresh_stack: Callable[..., LocalStack], tmp_path: Path) -> Callable[..., Any]:
    """Fill topic and Redis, and return the command in an empty folder. The snapshot contains the first half."""
    stack = fresh_stack(database=False)
    environment = {**os.environ, **stack.addresses.environment(), "PYTHONPATH": str(ROOT), "MOARD_VECTOR_SIZE": "4"}
    admin = KafkaTopicAdmin(stack.addresses.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(StackSettings(events_partitions=PARTITIONS)))
    await admin.close()
    producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    contents = [Content(content_id=number, embedding=(1.0, 0.0, 0.5, float(number))) for number in range(1, 7)]
    await producer.append([Outgoing(CONTENTS, content_key(each.content_id), encode(each)) for each in contents], 10)
    offsets = [0] * PARTITIONS
    rng = np.random.default_rng(0)
    for number in range(REQUESTS):
        shown = drawn([0.5, 0.4, 0.3, 0.2, 0.1, 0.0], 3, rng, Exploration(2.0, 0.2), user_id=f"u{number % 30}")
        click = interaction(shown.user_id, shown.slate[0], impression_id=shown.event_id)
        records = [Outgoing(EVENTS, user_key(shown.user_id), encode(event)) for event in (shown, click)]
        assert all(await producer.append(records, 10))
        if number < REQUESTS // 2:
            offsets[partition_of(user_key(shown.user_id), PARTITIONS)] += 2
    await producer.stop()
    await _publish(stack.addresses.redis_url, offsets)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.cli", "evaluate", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


async def _publish(redis_url: str, offsets: list[int]) -> None:
    snapshot = random_snapshot(range(1, 7), vector_size=4)
    blob = encode_snapshot(snapshot)
    store = RedisSnapshotStore(redis_url, "moard")
    meta = SnapshotMeta(
        version=5,
        epoch=await store.claim_epoch(1),
        step=1,
        sha256=hashlib.sha256(blob).hexdigest(),
        size_bytes=len(blob),
        created_ms=0,
        format=1,
        arch=arch(snapshot),
        offsets={f"{EVENTS}:{number}": offset for number, offset in enumerate(offsets)},
    )
    await store.publish(meta, blob)
    await store.close()


def test_a_snapshot_is_judged_by_events_that_are_new_to_it(evaluate: Callable[..., Any]) -> None:
    own = evaluate("--policy", "logged", "--json")
    assert own.returncode == 0, own.stderr
    report = orjson.loads(own.stdout)
    assert (report["impressions"], report["users"], report["logged_value"]) == (REQUESTS, 30, 1.0)
    assert report["estimates"]["snrips"]["value"] == pytest.approx(1.0)

    refused = evaluate("--policy", "snapshot", "--temperature", "3")
    assert refused.returncode == 2
    assert "snapshot 5 was trained on events of this range" in refused.stderr
    start = refused.stderr.split("`--from ")[1].split("`")[0]

    fair = evaluate("--policy", "snapshot", "--temperature", "3", "--version", "5", "--from", start, "--json")
    assert fair.returncode == 0, fair.stderr
    report = orjson.loads(fair.stdout)
    assert report["impressions"] == REQUESTS // 2
    assert report["policy"] == "snapshot 5, rule value, T = 3.0"
    assert report["notes"] == []  # contents had their vectors
    assert report["estimates"]["snrips"]["weights"]["mean"] == pytest.approx(1.0, abs=0.1)

    gone = evaluate("--version", "6")
    assert gone.returncode == 2
    assert "kept are: 5" in gone.stderr


def test_a_broker_that_is_away_is_a_message_and_not_a_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "services.cli", "evaluate"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the broker did not answer" in done.stderr
    assert "Traceback" not in done.stderr
