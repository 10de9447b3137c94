"""How fast one serving worker ranks: a running process, on a real broker and Redis, with a snapshot in memory.

Every request is a different user with a history and other candidates. At 1 and 16 clients each client sends its next
request when it has the answer (wrk where it is installed, else aiohttp in this process, and the table says which). At
a fixed rate requests leave on schedule whatever the answers do, and count from the moment they were due.
"""

import asyncio
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Final
from uuid import UUID

import aiohttp
import numpy as np
import orjson

from benchmarks.harness import Bench
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
from libs.rl.snapshot import FORMAT, arch
from libs.rl.snapshot import encode as encode_snapshot
from tests.snapshots import random_snapshot

CATALOGUE: Final = 5_000
USERS: Final = 2_000
HISTORY: Final = 20
BODIES: Final = 500
RATE: Final = 200
VECTOR: Final = 300


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of request."""

    name: str
    path: str
    bodies: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of load showed; latencies in ms."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int


def run(bench: Bench) -> None:
    """Start a stack and serving, fill them, and measure."""
    with (
        tempfile.TemporaryDirectory(prefix="moard-bench-") as folder,
        LocalStack(Path(folder), database=False, use_external=False) as stack,
    ):
        environment = stack.addresses.environment()
        environment |= {"MOARD_LOG_LEVEL": "warning", "MOARD_STATE_PATH": f"{folder}/state"}
        asyncio.run(_fill(environment))
        with _serving(environment, Path(folder)) as serving:
            asyncio.run(_measure(bench, serving, environment["REDIS_URL"], Path(folder)))


@contextmanager
def _serving(environment: dict[str, str], folder: Path) -> Iterator[ServiceProcess]:
    serving = ServiceProcess("serving", environment, folder)
    serving.start()
    try:
        serving.wait_ready()
        yield serving
    finally:
        serving.stop()


def user(number: int) -> str:
    """Return a user id that the legacy call takes too."""
    return str(UUID(int=number))


def variants(seed: int) -> list[Variant]:
    """Return the kinds of request."""
    rng = random.Random(seed)

    def rank(count: int) -> bytes:
        body = {"user_id": user(rng.randrange(USERS)), "candidates": rng.sample(range(CATALOGUE), count), "size": 10}
        return orjson.dumps(body)

    def top(count: int) -> bytes:
        body = {"user_id": user(rng.randrange(USERS)), "content_ids": rng.sample(range(CATALOGUE), count)}
        return orjson.dumps(body)

    legacy = "/api/v1/predict/top-contents"
    return [
        Variant("rank, 100 ids", "/api/v1/rank", tuple(rank(100) for _ in range(BODIES))),
        Variant("top-contents, 100 ids", legacy, tuple(top(100) for _ in range(BODIES))),
        Variant("top-contents, 36 ids", legacy, tuple(top(36) for _ in range(BODIES))),
    ]


async def _fill(environment: dict[str, str]) -> None:
    settings = StackSettings(
        kafka_bootstrap_servers=environment["KAFKA_BOOTSTRAP_SERVERS"], redis_url=environment["REDIS_URL"]
    )
    await _fill_catalogue(settings)
    history = RedisUserHistory(settings.redis_url)
    now_ms, rng = time.time_ns() // 1_000_000, random.Random(1)
    for number in range(USERS):
        visits = [
            Visit(f"{number}-{turn}", rng.randrange(CATALOGUE), now_ms - turn * 600_000) for turn in range(HISTORY)
        ]
        await history.append([(user(number), visit) for visit in visits])
    await history.close()
    await _publish(settings.redis_url, settings.model_name)


async def _fill_catalogue(settings: StackSettings) -> None:
    admin = KafkaTopicAdmin(settings.kafka_bootstrap_servers)
    await admin.ensure(topic_specs(settings))
    await admin.close()
    producer = KafkaProducer(settings.kafka_bootstrap_servers)
    await producer.start()
    vectors = np.random.default_rng(0).normal(size=(CATALOGUE, VECTOR)).round(4)
    for start in range(0, CATALOGUE, 500):
        contents = [Content(content_id=i, embedding=tuple(vectors[i].tolist())) for i in range(start, start + 500)]
        records = [Outgoing(CONTENTS, content_key(content.content_id), encode(content)) for content in contents]
        if not all(await producer.append(records, 30)):
            raise RuntimeError("the broker did not take the catalogue")
    await producer.stop()


async def _publish(redis_url: str, model: str) -> None:
    version = time.time_ns() // 1_000_000
    snapshot = random_snapshot(range(CATALOGUE), VECTOR, seed=version)
    blob = encode_snapshot(snapshot)
    store = RedisSnapshotStore(redis_url, model)
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


async def _measure(bench: Bench, serving: ServiceProcess, redis_url: str, folder: Path) -> None:
    rounds, round_s = (1, 2.0) if bench.short else (3, 6.0)
    closed = "wrk" if shutil.which("wrk") else "aiohttp"
    bench.note(f"clients: {closed}; fixed rate: aiohttp; {CATALOGUE:,} contents, histories of {HISTORY}")
    kinds = variants(bench.seed)
    results: dict[tuple[str, str], list[Load]] = {}
    costs: dict[str, list[float]] = {}
    for kind in kinds:  # connections, caches
        await _closed_aiohttp(serving, kind, 4, 1.0)
    for _ in bench.progress(range(rounds), "rounds", rounds):
        for kind in kinds:
            for clients in (1, 16):
                used = _processor_s(serving.pid)
                load = await _closed(closed, serving, kind, clients, round_s, folder)
                costs.setdefault(kind.name, []).append((_processor_s(serving.pid) - used) / load.requests * 1e6)
                results.setdefault((kind.name, f"{clients} clients"), []).append(load)
            results.setdefault((kind.name, f"{RATE}/s"), []).append(await _open(serving, kind, round_s))
            async with _publishing(redis_url):
                swapping = await _open(serving, kind, round_s)
            results.setdefault((kind.name, f"{RATE}/s, a snapshot each second"), []).append(swapping)
    _report(bench, results, costs)


def _report(bench: Bench, results: dict[tuple[str, str], list[Load]], costs: dict[str, list[float]]) -> None:
    for (kind, load), measured in results.items():
        requests = sum(one.requests for one in measured)
        bench.record(f"{kind}, {load}", "rate", statistics.median(one.rate for one in measured), "req/s", requests)
        bench.record(f"{kind}, {load}", "p50", statistics.median(one.p50_ms for one in measured), "ms", requests)
        bench.record(f"{kind}, {load}", "p99", statistics.median(one.p99_ms for one in measured), "ms", requests)
    for kind, measured_us in costs.items():
        bench.record(kind, "processor time of serving", statistics.median(measured_us), "µs/request", len(measured_us))


async def _closed(
    generator: str, serving: ServiceProcess, kind: Variant, clients: int, duration_s: float, folder: Path
) -> Load:
    if generator == "aiohttp":
        return await _closed_aiohttp(serving, kind, clients, duration_s)
    script = folder / "load.lua"
    script.write_text(_lua(kind))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{duration_s:.0f}s", "--latency", "-s", str(script), serving.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    return _of_wrk(done.stdout)


def _lua(kind: Variant) -> str:
    bodies = ",\n".join(f"[==[{body.decode()}]==]" for body in kind.bodies)
    return (
        f'local bodies = {{{bodies}}}\nlocal at = 0\nwrk.method = "POST"\n'
        'wrk.headers["content-type"] = "application/json"\n'
        f'function request() at = at % #bodies + 1; return wrk.format(nil, "{kind.path}", nil, bodies[at]) end\n'
    )


def _of_wrk(output: str) -> Load:
    if "Non-2xx" in output:
        raise RuntimeError(output)
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    found = re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", output)
    spread = {percent: float(value) * units[unit] for percent, value, unit in found}
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]
    return Load(rate, spread["50"], spread["99"], requests)


async def _closed_aiohttp(serving: ServiceProcess, kind: Variant, clients: int, duration_s: float) -> Load:
    latencies: list[float] = []
    queue, started = cycle(kind.bodies), time.perf_counter()
    async with _session(clients) as session:

        async def client() -> None:
            while time.perf_counter() - started < duration_s:
                asked = time.perf_counter()
                await _post(session, serving, kind.path, next(queue))
                latencies.append(time.perf_counter() - asked)

        await asyncio.gather(*(client() for _ in range(clients)))
    return _load(latencies, time.perf_counter() - started)


async def _open(serving: ServiceProcess, kind: Variant, duration_s: float) -> Load:
    """Send at a fixed rate; a request counts from the moment it was due."""
    latencies: list[float] = []
    started = time.perf_counter()
    async with _session(100) as session:

        async def one(due: float, body: bytes) -> None:
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            await _post(session, serving, kind.path, body)
            latencies.append(time.perf_counter() - started - due)

        due = (number / RATE for number in range(int(duration_s * RATE)))
        await asyncio.gather(*(one(at, body) for at, body in zip(due, cycle(kind.bodies), strict=False)))
    return _load(latencies, time.perf_counter() - started)


def _load(latencies: list[float], elapsed_s: float) -> Load:
    p50, p99 = np.percentile(np.array(latencies) * 1e3, (50, 99)).tolist()
    return Load(len(latencies) / elapsed_s, p50, p99, len(latencies))


async def _post(session: aiohttp.ClientSession, serving: ServiceProcess, path: str, body: bytes) -> None:
    async with session.post(serving.url + path, data=body, headers={"content-type": "application/json"}) as answer:
        text = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {text[:300]!r}")


@asynccontextmanager
async def _session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        yield session


@asynccontextmanager
async def _publishing(redis_url: str) -> AsyncIterator[None]:
    """Publish a new snapshot each second, as a learner does; made in a thread, for it shares this process."""
    model = StackSettings(redis_url=redis_url).model_name

    async def publish() -> None:
        while True:
            await asyncio.to_thread(asyncio.run, _publish(redis_url, model))
            await asyncio.sleep(1.0)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
