"""What proposing candidates costs: in process for three sizes of catalogue, and through a serving process.

In process: processor time of each step and of all of them, for a user with a full history, on one thread. Through a
process with the largest catalogue that one worker is meant for: its processor time for a request that names no
candidates beside one that names as many, what ``explain`` adds, and its memory, also while a snapshot arrives each
second.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from benchmarks.harness import Bench, interleave
from infra.local import LocalStack
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing, SnapshotMeta, Visit
from libs.adapters.settings import StackSettings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from libs.events.codec import encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from libs.rl.action_space import ActionSpace
from libs.rl.snapshot import FORMAT, arch
from libs.rl.snapshot import encode as encode_snapshot
from services.serving.proposals import SOURCES, Source, direction, drawn, mixed, nearest
from services.serving.recency import Recency
from services.serving.settings import Settings
from tests.snapshots import random_snapshot

CATALOGUES: Final = (5_000, 50_000, 100_000)
SERVED: Final = 50_000
USERS: Final = 200
HISTORY: Final = 30
VECTOR: Final = 300


def run(bench: Bench) -> None:
    """Record milliseconds of the steps, of requests, and the memory of a worker."""
    for catalogue in CATALOGUES[: 1 if bench.short else None]:
        _steps(bench, catalogue)
    _served(bench, 5_000 if bench.short else SERVED)


def _steps(bench: Bench, catalogue: int) -> None:
    rng, settings = np.random.default_rng(bench.seed), Settings(_env_file=None)
    space, count = ActionSpace(VECTOR), settings.serving_propose_count
    recency = Recency(space, count)
    for content_id in range(1, catalogue + 1):
        recency.put(space.put(content_id, rng.normal(size=VECTOR).astype(np.float32)), content_id, 0)
    history = rng.choice(catalogue, HISTORY, replace=False).astype(np.int32) + 1
    popular = rng.choice(catalogue, 1_000, replace=False).astype(np.int32) + 1
    ages = 3_600 * rng.random(HISTORY)
    shares: dict[Source, float] = {name: getattr(settings, f"serving_propose_{name}") for name in SOURCES}
    allowed = recency.listed & ~space.hidden

    def find() -> np.ndarray:
        user = direction(space.vectors[history], space.inverse_norm[history], ages)
        assert user is not None
        return nearest(user, space.vectors, space.inverse_norm, allowed, count)

    def propose() -> None:
        shown = recency.listed & ~space.hidden
        new = recency.newest()
        ranked: dict[Source, np.ndarray] = {
            "nearest": find(),
            "popular": popular[shown[popular]],
            "new": new[shown[new]],
            "random": drawn(shown, count, rng),
        }
        mixed(ranked, shares, count)

    def sort_again() -> None:
        space.put(1, space.vectors[1])
        recency.newest()

    steps: dict[str, Callable[[], object]] = {
        "nearest": find,
        "random": lambda: drawn(allowed, count, rng),
        "newest after a change": sort_again,
        f"all, {count} proposed": propose,
    }
    rounds = 30 if bench.short else 300
    variants = {name: _timed(step) for name, step in steps.items()}
    interleave(variants, 5)
    compared = interleave(variants, rounds)
    for name in steps:
        bench.record(f"{catalogue:,} contents", name, 1e3 * compared.median(name), "ms", rounds)


def _timed(step: Callable[[], object]) -> Callable[[], float]:
    def seconds() -> float:
        started = time.thread_time()
        step()
        return time.thread_time() - started

    return seconds


def _served(bench: Bench, catalogue: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="moard-bench-") as folder,
        LocalStack(Path(folder), database=False, use_external=False) as stack,
    ):
        environment = stack.addresses.environment()
        environment |= {"MOARD_LOG_LEVEL": "warning", "MOARD_STATE_PATH": f"{folder}/state"}
        settings = StackSettings(
            _env_file=None,
            kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"],
            redis_url=environment["REDIS_URL"],
        )
        asyncio.run(_fill(bench, settings, catalogue))
        with _serving(environment, Path(folder)) as serving:
            _compare(bench, serving, catalogue)
            _memory(bench, serving, settings, catalogue)


def _memory(bench: Bench, serving: ServiceProcess, settings: StackSettings, catalogue: int) -> None:
    label, swaps = f"worker, {catalogue:,} contents", 5 if bench.short else 20
    bench.record(label, "memory with one snapshot", _memory_mb(serving.pid, "VmRSS"), "MB")
    for _ in bench.progress(range(swaps), "snapshots", swaps):
        asyncio.run(_publish(settings, catalogue))
        time.sleep(1.0)
    bench.record(label, "memory, highest, a snapshot each second", _memory_mb(serving.pid, "VmHWM"), "MB", swaps)
    bench.record(label, "memory afterwards", _memory_mb(serving.pid, "VmRSS"), "MB")


def _compare(bench: Bench, serving: ServiceProcess, catalogue: int) -> None:
    rng = random.Random(bench.seed)
    count = Settings(_env_file=None).serving_propose_count
    each, rounds = 20, 3 if bench.short else 20
    with httpx.Client(timeout=10) as client:

        def block(given: bool = False, **body: Any) -> Callable[[], float]:
            def seconds() -> float:
                before = _processor_s(serving.pid)
                for _ in range(each):
                    request = {"user_id": f"user-{rng.randrange(USERS)}", "size": 10, **body}
                    if given:
                        request["candidates"] = rng.sample(range(1, catalogue + 1), count)
                    client.post(f"{serving.url}/api/v1/rank", json=request).raise_for_status()
                return (_processor_s(serving.pid) - before) / each

            return seconds

        variants = {
            f"{count} given": block(given=True),
            f"{count} proposed": block(),
            f"{count} proposed and explained": block(explain=True),
        }
        interleave(variants, 1)
        compared = interleave(variants, rounds)
    for name in variants:
        milliseconds = 1e3 * compared.median(name)
        bench.record(f"rank, {name}, {catalogue:,} contents", "processor time", milliseconds, "ms", rounds * each)


@contextmanager
def _serving(environment: dict[str, str], folder: Path) -> Iterator[ServiceProcess]:
    serving = ServiceProcess("serving", environment, folder)
    serving.start()
    try:
        serving.wait_ready()
        yield serving
    finally:
        serving.stop()


async def _fill(bench: Bench, settings: StackSettings, catalogue: int) -> None:
    admin = KafkaTopicAdmin(settings.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(settings))
    await admin.close()
    producer = KafkaProducer(settings.kafka_bootstrap_servers)
    await producer.start()
    rng = np.random.default_rng(bench.seed)
    for start in bench.progress(range(1, catalogue + 1, 500), "contents", catalogue // 500):
        vectors = rng.normal(size=(500, VECTOR)).round(4).tolist()
        contents = [Content(content_id=start + at, embedding=tuple(row)) for at, row in enumerate(vectors)]
        records = [Outgoing(CONTENTS, content_key(content.content_id), encode(content)) for content in contents]
        if not all(await producer.append(records, 30)):
            raise RuntimeError("the broker did not take the catalogue")
    await producer.stop()
    history, now_ms = RedisUserHistory(settings.redis_url), time.time_ns() // 1_000_000
    for number in range(USERS):
        visited = rng.integers(1, catalogue + 1, HISTORY).tolist()
        visits = [Visit(f"{number}-{at}", content, now_ms - at * 600_000) for at, content in enumerate(visited)]
        await history.append([(f"user-{number}", visit) for visit in visits])
    await history.close()
    await _publish(settings, catalogue)


async def _publish(settings: StackSettings, catalogue: int) -> None:
    version = time.time_ns() // 1_000_000
    snapshot = random_snapshot(range(1, catalogue + 1), VECTOR, seed=version)
    blob = encode_snapshot(snapshot)
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
    store = RedisSnapshotStore(settings.redis_url, settings.model_name)
    await store.publish(meta, blob)
    await store.close()


def _processor_s(pid: int) -> float:
    """Return the processor time of all threads of a process, finer than the clock ticks of ``stat``."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _memory_mb(pid: int, name: str) -> float:
    """Return the resident memory of a process: now (``VmRSS``) or at most so far (``VmHWM``)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status[name].split()[0]) / 1024
