"""A stand for measuring serving: a real broker and Redis, a catalogue, histories, and a snapshot that ranks."""

import asyncio
import os
import random
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np

from infra.child import Child
from infra.ports import LOOPBACK, free_port
from infra.services import ROOT, ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing, SnapshotMeta, Visit
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from libs.events.codec import encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from libs.rl.snapshot import FORMAT, Snapshot, arch
from libs.rl.snapshot import encode as encode_snapshot
from tests.snapshots import random_snapshot

USERS: Final = 2_000
HISTORY: Final = 20
VECTOR: Final = 300


def user(number: int) -> str:
    """Return a user id that the legacy call takes too."""
    return str(UUID(int=number))


def vectors(catalogue: int) -> np.ndarray:
    """Return the catalogue's text vectors, as they are written into the topic."""
    return np.random.default_rng(0).normal(size=(catalogue, VECTOR)).round(4)


def visits_of(number: int, catalogue: int, now_ms: int) -> list[Visit]:
    """Return one user's history, newest first, ten minutes apart."""
    rng = random.Random(number)
    return [Visit(f"{number}-{turn}", rng.randrange(catalogue), now_ms - turn * 600_000) for turn in range(HISTORY)]


def settings_of(environment: Mapping[str, str]) -> StackSettings:
    """Return where the stack is."""
    return StackSettings(
        kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"], redis_url=environment["REDIS_URL"]
    )


async def fill(environment: Mapping[str, str], catalogue: int) -> Snapshot:
    """Write contents, histories and a snapshot; return the snapshot."""
    settings = settings_of(environment)
    await fill_catalogue(settings, catalogue)
    history, now_ms = RedisUserHistory(settings.redis_url), time.time_ns() // 1_000_000
    for number in range(USERS):
        await history.append([(user(number), visit) for visit in visits_of(number, catalogue, now_ms)])
    await history.close()
    return await publish(settings, catalogue)


async def fill_catalogue(settings: StackSettings, catalogue: int) -> None:
    """Put so many contents with vectors on the compacted topic."""
    admin = KafkaTopicAdmin(settings.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(settings))
    await admin.close()
    producer = KafkaProducer(settings.kafka_bootstrap_servers)
    await producer.start()
    rows = vectors(catalogue)
    for start in range(0, catalogue, 500):
        numbers = range(start, min(start + 500, catalogue))
        contents = [Content(content_id=number, embedding=tuple(rows[number].tolist())) for number in numbers]
        records = [Outgoing(CONTENTS, content_key(content.content_id), encode(content)) for content in contents]
        if not all(await producer.append(records, 30)):
            raise RuntimeError("the broker did not take the catalogue")
    await producer.stop()


async def publish(settings: StackSettings, catalogue: int) -> Snapshot:
    """Publish random weights under the next version and return them."""
    version = time.time_ns() // 1_000_000
    snapshot = random_snapshot(range(catalogue), VECTOR, seed=version)
    blob = encode_snapshot(snapshot)
    store = RedisSnapshotStore(settings.redis_url, settings.model_name)
    meta = SnapshotMeta(
        version=version,
        epoch=1,
        step=1,
        sha256=sha256(blob).hexdigest(),
        size_bytes=len(blob),
        created_ms=version,
        format=int(FORMAT),
        arch=arch(snapshot),
        offsets={},
    )
    await store.publish(meta, blob)
    await store.close()
    return snapshot


@asynccontextmanager
async def publishing(settings: StackSettings, catalogue: int) -> AsyncIterator[None]:
    """Publish a new snapshot each second, as a learner does; made in a thread, for it shares this process."""

    async def work() -> None:
        while True:
            await asyncio.to_thread(asyncio.run, publish(settings, catalogue))
            await asyncio.sleep(1.0)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def running(environment: Mapping[str, str], folder: Path) -> Iterator[ServiceProcess]:
    """Run serving until the end of the block."""
    serving = ServiceProcess("serving", environment, folder)
    serving.start()
    try:
        serving.wait_ready()
        yield serving
    finally:
        serving.stop()


def processor_s(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """Return what a process holds in memory, or held at most (``VmHWM``)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1_000


@contextmanager
def running_plain(environment: Mapping[str, str], folder: Path, catalogue: int, texts: Path) -> Iterator[str]:
    """Run the plain server on the snapshot in ``folder`` until the end of the block; yield its address."""
    port, child = free_port(), Child("plain", folder / "plain.log")
    command = [sys.executable, "-m", "benchmarks.plain_server", str(port), str(folder / "snapshot"), str(catalogue)]
    one_thread = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    child.start([*command, str(texts)], {**os.environ, **one_thread, **environment}, ROOT)
    url = f"http://{LOOPBACK}:{port}"

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return True
        except OSError:
            return False

    try:
        if problem := child.wait_until(ready, 60):
            raise RuntimeError(problem)
        yield url
    finally:
        child.stop(10)
