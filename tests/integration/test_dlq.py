"""``moard dlq`` on a real Kafka, as its page in ``docs/how-to`` has it, and a learner that learns what was sent."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local import LocalStack
from infra.services import ROOT, ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.errors import BadEvent
from libs.events.codec import encode
from libs.events.dead_letters import dead_letter
from libs.events.topics import DEAD_LETTERS, EVENTS, Origin, event_id_of
from services.learner.ledger import read_ledger
from tests.builders import interaction

pytestmark = pytest.mark.stack

PAGE = (ROOT / "docs/how-to/replay-dead-letters.md").read_text("utf-8")
BARE = b'{"type":"interaction","user_id":"u","kind":"click","content_id":1}'
WITH_ID = encode(interaction(event_id="mine"))
DEADLINE_S = 60.0


def letter(value: bytes, reason: str, origin: Origin) -> Outgoing:
    """Return a dead letter as an earlier build might have written it, of something that this one can read."""
    buried = dead_letter(b"u", value, (), origin, 1_750_000_000_000, BadEvent(reason, "schema: must be 0", "schema"))
    return Outgoing(DEAD_LETTERS, buried.key, buried.value, buried.headers)


@pytest.fixture
async def servers(fresh_stack: Callable[..., LocalStack]) -> dict[str, str]:
    """A stack with three dead letters: two of schema, and one that is no JSON."""
    stack = fresh_stack(database=False)
    admin = KafkaTopicAdmin(stack.addresses.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(StackSettings()))
    await admin.close()
    producer = KafkaProducer(stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    letters = [
        letter(BARE, "schema", Origin(EVENTS, 0, 7)),
        letter(WITH_ID, "schema", Origin(EVENTS, 1, 8)),
        letter(b"\xffnot json\x1b[2J", "json", Origin(EVENTS, 1, 9)),
    ]
    assert all(await producer.append(letters, 10))
    await producer.stop()
    return stack.addresses.environment()


@pytest.fixture
def shell(servers: dict[str, str], tmp_path: Path) -> Callable[[str], str]:
    """Run what a person types, with ``moard`` on the path."""
    (tmp_path / "bin").mkdir()
    moard = tmp_path / "bin/moard"
    moard.write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
    moard.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | servers | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


async def test_letters_are_looked_at_and_sent_again_and_learned_once(
    servers: dict[str, str], shell: Callable[[str], str], tmp_path: Path
) -> None:
    said = [await asyncio.to_thread(shell, block) for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
    assert len(said) == 4
    listed, shown, judged, sent = said
    assert all(text in listed for text in ("0:2", "json", "moard.events 1:9", "schema: must be 0"))
    assert listed.index("0:2") < listed.index("0:0")
    assert '"content_id": 1' in shown
    assert "2 would be sent to moard.events" in judged
    assert "2 sent to moard.events" in sent

    def moard(*arguments: str) -> Any:
        return json.loads(shell(f"moard dlq {' '.join(arguments)} --json"))

    assert [each["id"] for each in moard("list", "--partition", "1")] == ["0:2", "0:1"]
    assert moard("show", "0:2")["value"] is None
    again = await asyncio.to_thread(moard, "replay")
    assert again == {"letters": 3, "sent": {EVENTS: 2}, "skipped": {"unreadable": 1}, "dry_run": False}
    assert "\x1b" not in listed + shell("moard dlq show 0:2")

    checkpoints = tmp_path / "checkpoints"
    learner = ServiceProcess("learner", servers | {"MOARD_LEARNER_CHECKPOINT_PATH": str(checkpoints)}, tmp_path)
    try:
        await asyncio.to_thread(learner.start)
        await asyncio.to_thread(learner.wait_ready)
        deadline = time.monotonic() + DEADLINE_S
        while (outcomes := await asyncio.to_thread(_outcomes, learner)).total() < 4:
            assert time.monotonic() < deadline, learner.log_tail()
            await asyncio.sleep(0.1)
        assert outcomes == {"organic": 2, "duplicate": 2}
        assert await asyncio.to_thread(learner.stop) == 0
    finally:
        learner.kill()
    assert sorted(read_ledger(checkpoints)) == sorted(["mine", event_id_of(Origin(EVENTS, 0, 7))])


def _outcomes(learner: ServiceProcess) -> Counter[str]:
    text = httpx.get(f"{learner.url}/metrics", timeout=10).text
    return Counter(
        {
            sample.labels["outcome"]: int(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "moard_learner_interactions_total" and sample.value
        }
    )
