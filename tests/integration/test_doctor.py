"""``moard doctor`` on real servers, each of its mistakes planted."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.kafka_server import KafkaServer
from infra.local import Addresses, LocalStack
from infra.migrations import upgrade
from libs.adapters.content_store import SqlContentStore
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin
from libs.adapters.kafka_admin import topic_specs
from libs.adapters.ports import Outgoing, StoredContent, TopicSpec
from libs.adapters.redis_client import connect
from libs.adapters.settings import StackSettings
from libs.errors import StoreUnavailable
from libs.events.codec import encode
from libs.events.topics import CONTENTS, EVENTS, partition_of, user_key
from services.cli.diagnosis import Finding
from services.cli.doctor import examination
from tests.builders import NOW_MS, interaction

pytestmark = pytest.mark.stack


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch, fresh_stack: Callable[..., LocalStack]) -> Addresses:
    """Return a stack whose broker creates topics by itself."""
    prepare = KafkaServer.prepare

    def careless(server: KafkaServer) -> None:
        prepare(server)
        path = server.folder / "server.properties"
        path.write_text(path.read_text().replace("auto.create.topics.enable=false", "auto.create.topics.enable=true"))

    monkeypatch.setattr(KafkaServer, "prepare", careless)
    return fresh_stack().addresses


@pytest.fixture
def there(careless: Addresses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Addresses:
    """Let this process's settings name the stack, and nothing else."""
    monkeypatch.chdir(tmp_path)
    for name, value in careless.environment().items():
        monkeypatch.setenv(name, value)
    return careless


def mistakes(found: list[Finding]) -> dict[str, str]:
    """Return what is said of each check that found a mistake."""
    said: dict[str, str] = {}
    for each in found:
        if each.state == "mistake":
            assert each.remedy
            said[each.check] = f"{said.get(each.check, '')} {each.detail}: {each.remedy}"
    return said


async def test_it_finds_what_is_wrong_and_nothing_once_that_is_right(there: Addresses) -> None:
    settings = StackSettings()
    await plant(settings)

    found = mistakes(await examination(clock_ms=lambda: NOW_MS))  # this machine's clock is years behind

    assert set(found) == {
        "auto-created topics",
        "topics",
        f"settings of {EVENTS}",
        f"settings of {CONTENTS}",
        f"partitioner of {EVENTS}",
        "clock of kafka",
        "clock of redis",
        "clock of the database",
        "memory of redis",
        "migrations",
    }
    assert "MOARD_CONTENTS_PARTITIONS=2" in found["topics"]
    assert "murmur2_random" in found[f"partitioner of {EVENTS}"]

    await repair(settings)
    found = mistakes(await examination())
    assert set(found) == {"auto-created topics", "topics", f"partitioner of {EVENTS}", "vectors"}  # these stay
    assert "of 2 contents 1 have no vector" in found["vectors"]


async def plant(settings: StackSettings) -> None:
    admin, producer = KafkaTopicAdmin(settings.kafka), KafkaProducer(settings.kafka)
    clients_clock = {"message.timestamp.type": "CreateTime"}
    await ensured(admin, [TopicSpec(EVENTS, 4, clients_clock), TopicSpec(CONTENTS, 2, clients_clock)])
    await producer.start()
    events = [interaction(f"user-{number}") for number in range(20)]
    keys = [user_key(event.user_id) for event in events]
    # As a client does whose partitioner is not murmur2.
    strays = [
        Outgoing(EVENTS, key, encode(event), partition=(partition_of(key, 4) + 1) % 4)
        for key, event in zip(keys, events, strict=True)
    ]
    assert all(await producer.append(strays, 10))
    await producer.stop()
    await admin.close()
    redis = connect(settings.redis_url)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    await redis.aclose()


async def ensured(admin: KafkaTopicAdmin, specs: list[TopicSpec]) -> None:
    """Create topics, however long a broker that has just started takes to lead them."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await admin.ensure(specs)
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise


async def repair(settings: StackSettings) -> None:
    admin = KafkaTopicAdmin(settings.kafka)
    await ensured(admin, [spec for spec in topic_specs(settings) if spec.name != CONTENTS])
    contents = next(spec for spec in topic_specs(settings) if spec.name == CONTENTS)
    await admin.ensure([TopicSpec(CONTENTS, 2, contents.config)])
    await admin.close()
    redis = connect(settings.redis_url)
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.aclose()
    await asyncio.to_thread(upgrade, settings.database_url)
    store = SqlContentStore(settings.database_url, settings.vector_size)
    await store.start()
    await store.put(StoredContent(1, "with", embedding=(0.5,) * settings.vector_size))
    await store.put(StoredContent(2, "without"))
    await store.close()


def test_the_command_says_so_with_its_exit_code(stack: Addresses, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.cli", "doctor", "--json"]
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "REDIS_URL": stack.redis_url, "MOARD_INGEST_PORT": "none"}
    nowhere["DATABASE_URL"] = f"sqlite+aiosqlite:///{tmp_path}/moard.db"
    upgrade(nowhere["DATABASE_URL"])
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | nowhere, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert "KAFKA_BOOTSTRAP_SERVERS" in found["kafka"]["remedy"]
    assert "MOARD_INGEST_PORT" in found["settings of ingest"]["detail"]
    assert found["redis"]["state"] == "ok"
    assert found["migrations"]["state"] == "ok"
