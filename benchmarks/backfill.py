"""A back-fill of the legacy tables while serving answers: how long it takes, and what rankings notice of it.

Serving, a learner, Kafka, Redis and MariaDB on this machine. Requests leave at a fixed rate whatever the answers do,
and count from the moment they were due. The back-fill is followed to its end; before and after it the same requests
are ranked, and learned from, without it.
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import numpy as np
import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.harness import Bench
from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.events.codec import encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from tests.contract.catalogue_stand import create_legacy_tables

RECOMMENDATIONS: Final = 10_000
SLATE: Final = 6
CATALOGUE: Final = 2_000
USERS: Final = 500
VECTOR: Final = 300
RATE: Final = 200
CANDIDATES: Final = 100
QUIET_S: Final = 40.0
SETTLED_S: Final = 2.0  # what came before is over
# A backend's foreign keys bring these along.
INDEXES: Final = (
    "CREATE INDEX log_user ON user_logs (user_id)",
    "CREATE INDEX log_recommendation ON user_logs (recommendation_id)",
    "CREATE INDEX shown_recommendation ON recommendation_contents (recommendation_id)",
)


@dataclass
class Load:
    """Latencies in seconds, each with the moment its request was due."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> list[float]:
        """Return the latencies of requests due in that span, in ms."""
        return [1_000 * latency for due, latency in self.samples if start <= due < end]


@dataclass(frozen=True)
class Stand:
    """The running system, and what a round of it asks for."""

    bench: Bench
    serving: ServiceProcess
    learner: ServiceProcess
    database_url: str
    recommendations: int
    quiet_s: float


def run(bench: Bench) -> None:
    """Start everything, fill the tables, and back-fill under load."""
    with (
        tempfile.TemporaryDirectory(prefix="moard-bench-") as folder,
        LocalStack(Path(folder), use_external=False) as stack,
    ):
        environment = stack.addresses.environment()
        environment |= {
            "MOARD_LOG_LEVEL": "warning",
            "MOARD_STATE_PATH": f"{folder}/state",
            "MOARD_LEARNER_CHECKPOINT_PATH": f"{folder}/checkpoints",
        }
        url = environment["DATABASE_URL"]
        asyncio.run(_fill_catalogue(environment))
        asyncio.run(_create_tables(url))
        upgrade(url)
        with _service("serving", environment, folder) as serving, _service("learner", environment, folder) as learner:
            count, quiet_s = (500, 3.0) if bench.short else (RECOMMENDATIONS, QUIET_S)
            asyncio.run(_measure(Stand(bench, serving, learner, url, count, quiet_s)))


@contextmanager
def _service(name: Any, environment: dict[str, str], folder: str) -> Iterator[ServiceProcess]:
    service = ServiceProcess(name, environment, Path(folder))
    service.start()
    try:
        service.wait_ready()
        yield service
    finally:
        service.stop()


async def _measure(stand: Stand) -> None:
    rng = random.Random(stand.bench.seed)
    await _recommend(stand.database_url, rng, 0, 1_000)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as session:
        await _ended(session, stand, await _start(session, stand))  # the learner's first snapshot, everybody's caches
        async with _loaded(session, stand, rng) as load:
            before = await _quiet(stand)
            during = await _followed(session, stand, rng, 1_000)
            after = await _quiet(stand)
    quiet = load.between(*before) + load.between(*after)
    _report(stand.bench, "quiet, before", load.between(*before), quiet)
    _report(stand.bench, "quiet, after", load.between(*after), quiet)
    _report(stand.bench, "back-fill", load.between(*during), quiet)
    note = f"{stand.recommendations:,} recommendations of {SLATE}, histories of {USERS} users; {RATE} req/s"
    stand.bench.note(f"{note} of {CANDIDATES} ids; {os.cpu_count()} processors for everything")


async def _followed(
    session: aiohttp.ClientSession, stand: Stand, rng: random.Random, first: int
) -> tuple[float, float]:
    """Back-fill; return when it began and ended."""
    interactions = await _recommend(stand.database_url, rng, first, stand.recommendations)
    await asyncio.sleep(SETTLED_S)
    used, start = _processor_s(stand.serving.pid), time.perf_counter()
    task = await _ended(session, stand, await _start(session, stand))
    end = time.perf_counter()
    if (task["total_interactions"], task["processed_interactions"]) != (interactions, interactions):
        raise RuntimeError(f"{interactions} interactions were to be learned: {task}")
    record, seconds = stand.bench.record, end - start
    record("back-fill", "until learned", seconds, "s", interactions)
    record("back-fill", "rate", interactions / seconds, "interactions/s", interactions)
    record("back-fill", "processor of serving", (_processor_s(stand.serving.pid) - used) / seconds, "s/s", interactions)
    return start, end


def _report(bench: Bench, name: str, found: Sequence[float], quiet: Sequence[float]) -> None:
    p50, p99 = np.percentile(found, (50, 99)).tolist()
    bench.record(name, "p50", p50, "ms", len(found))
    bench.record(name, "p99", p99, "ms", len(found))
    bench.record(name, "p99 to quiet", p99 / float(np.percentile(quiet, 99)), "×", len(found))


async def _quiet(stand: Stand) -> tuple[float, float]:
    await asyncio.sleep(SETTLED_S)
    start = time.perf_counter()
    await asyncio.sleep(stand.quiet_s)
    return start, time.perf_counter()


@asynccontextmanager
async def _loaded(session: aiohttp.ClientSession, stand: Stand, rng: random.Random) -> AsyncIterator[Load]:
    """Ask for rankings at the fixed rate inside; each is another user with other candidates."""
    load = Load()
    bodies = [
        orjson.dumps({"user_id": _user(rng.randrange(USERS)), "candidates": rng.sample(range(CATALOGUE), CANDIDATES)})
        for _ in range(500)
    ]
    headers, url = {"content-type": "application/json"}, f"{stand.serving.url}/api/v1/rank"
    running: set[asyncio.Task[None]] = set()

    async def one(due: float, body: bytes) -> None:
        async with session.post(url, data=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"rank answered {answer.status}: {text[:300]!r}")
        load.samples.append((due, time.perf_counter() - due))

    async def send() -> None:
        began, number = time.perf_counter(), 0
        while True:
            due = began + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(one(due, bodies[number % len(bodies)]))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1

    sending = asyncio.create_task(send())
    try:
        yield load
    finally:
        sending.cancel()
        await asyncio.gather(sending, *running, return_exceptions=True)


async def _start(session: aiohttp.ClientSession, stand: Stand) -> str:
    url = f"{stand.serving.url}/api/v1/online-learning/async-train?batch_size=100"
    async with session.post(url) as answer:
        return str((await answer.json())["task_id"])


async def _ended(session: aiohttp.ClientSession, stand: Stand, task_id: str) -> dict[str, Any]:
    url = f"{stand.serving.url}/api/v1/online-learning/async-batch-status/{task_id}"
    while True:
        async with session.get(url) as answer:
            task: dict[str, Any] = await answer.json()
        if task["status"] == "completed":
            return task
        if task["status"] != "processing":
            raise RuntimeError(f"the task ended otherwise: {task}")
        await asyncio.sleep(0.5)


async def _fill_catalogue(environment: dict[str, str]) -> None:
    servers = environment["KAFKA_BOOTSTRAP_SERVERS"]
    admin, producer = KafkaTopicAdmin(servers), KafkaProducer(servers)
    await admin.ensure(topic_specs(StackSettings()))
    await admin.close()
    await producer.start()
    vectors = np.random.default_rng(0).normal(size=(CATALOGUE, VECTOR)).round(4)
    for start in range(0, CATALOGUE, 500):
        contents = [Content(content_id=i, embedding=tuple(vectors[i].tolist())) for i in range(start, start + 500)]
        records = [Outgoing(CONTENTS, content_key(content.content_id), encode(content)) for content in contents]
        if not all(await producer.append(records, 30)):
            raise RuntimeError("the broker did not take the catalogue")
    await producer.stop()


async def _create_tables(url: str) -> None:
    await create_legacy_tables(url)
    users = [{"id": number + 1, "uuid": UUID(int=number).bytes} for number in range(USERS)]
    indexes: list[tuple[str, list[dict[str, Any]]]] = [(index, [{}]) for index in INDEXES]
    await _write(url, *indexes, ("INSERT INTO users VALUES (:id, :uuid)", users))


async def _recommend(url: str, rng: random.Random, first: int, count: int) -> int:
    """Let the legacy server recommend, and its users view and click; return how many logs that makes."""
    began = datetime(2025, 1, 1, tzinfo=UTC)
    shown, slates, logs = [], [], []
    for number in range(first + 1, first + count + 1):
        user, at = 1 + rng.randrange(USERS), began + timedelta(seconds=30 * number)
        shown.append({"id": number, "user": user, "at": _written(at)})
        slate = rng.sample(range(CATALOGUE), SLATE)
        slates += [{"id": number, "content": content, "rank": rank} for rank, content in enumerate(slate)]
        for kind, content in (("VIEW", slate[0]), ("CLICK", slate[rng.randrange(SLATE)])):
            log_id = 2 * number + (kind == "CLICK")
            moment = _written(at + timedelta(seconds=5))
            logs.append(
                {
                    "id": log_id,
                    "user": user,
                    "kind": kind,
                    "content": content,
                    "rec": number,
                    "ratio": 0.5,
                    "at": moment,
                }
            )
    await _write(
        url,
        ("INSERT INTO recommendations (id, user_id, recommended_at) VALUES (:id, :user, :at)", shown),
        ("INSERT INTO recommendation_contents VALUES (:id, :content, :rank)", slates),
        (
            "INSERT INTO user_logs (id, user_id, event_type, content_id, recommendation_id, ratio, timestamp)"
            " VALUES (:id, :user, :kind, :content, :rec, :ratio, :at)",
            logs,
        ),
    )
    return len(logs)


async def _write(url: str, *statements: tuple[str, list[dict[str, Any]]]) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement, rows in statements:
            await connection.execute(text(statement), rows)
    await engine.dispose()


def _user(number: int) -> str:
    return str(UUID(int=number))


def _written(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
