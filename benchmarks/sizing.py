"""Bytes of each thing that grows: a user, an event in the log, an open impression, an event id, a content.

Histories are measured in a real Redis, the log in the folder of a real broker, the rest in the objects of the services.
"""

import asyncio
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
from redis.asyncio import Redis

from benchmarks.harness import Bench
from infra.local import LocalStack
from libs.adapters.event_log import KafkaProducer, ensure_topics
from libs.adapters.ports import Outgoing, Visit
from libs.adapters.settings import StackSettings
from libs.adapters.user_history import RedisUserHistory
from libs.events.codec import decode_event, encode
from libs.events.schema import Event, Impression, Interaction
from libs.events.topics import EVENTS, Origin
from libs.rl.action_space import ActionSpace
from services.learner.attribution import Arrival, Attribution
from services.learner.dedup import DedupWindow
from services.learner.windows import JoinRules
from services.serving.impressions import shortest

CANDIDATES, SLATE, HISTORY = 100, 6, 30
VECTOR_SIZE: Final = 300
VISITS_KEPT: Final = 100  # the cap of a user's history
_NOW_MS: Final = 1_750_000_000_000
_BATCH: Final = 500


def run(bench: Bench) -> None:
    """Record bytes of each."""
    rng = np.random.default_rng(bench.seed)
    count = 1_000 if bench.short else 20_000
    impressions = [_impression(rng, number) for number in bench.progress(range(count), "making impressions")]
    clicks = [_click(impression) for impression in impressions]
    _in_memory(bench, impressions)
    with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder, ExitStack() as stopping:
        stack = stopping.enter_context(LocalStack(Path(folder), database=False, use_external=False))
        asyncio.run(_histories(bench, stack.addresses.redis_url, 50 if bench.short else 1_000))
        log = stack.kafka.folder / "data"
        asyncio.run(
            _log(bench, stack.addresses.kafka_bootstrap_servers, log, {"impression": impressions, "click": clicks})
        )


def _impression(rng: np.random.Generator, number: int) -> Impression:
    """Return what serving writes for a hundred candidates and a full history."""
    candidates = rng.choice(50_000, CANDIDATES, replace=False)
    predicted = rng.normal(size=(2, SLATE)).astype(np.float32)
    return Impression(
        event_id=uuid4().hex,
        user_id=f"user-{number % 5_000}",
        slate=tuple(candidates[:SLATE].tolist()),
        history=tuple(rng.integers(1, 50_000, HISTORY).tolist()),
        history_age_s=tuple(np.sort(rng.exponential(3_600.0, HISTORY)).round(3).tolist()),
        candidates=tuple(candidates.tolist()),
        scores=shortest(rng.normal(size=CANDIDATES).astype(np.float32)),
        log_propensities=tuple((-np.cumsum(rng.exponential(2.0, SLATE))).astype(np.float32).tolist()),
        choice=tuple(predicted[0].tolist()),
        advantage=tuple(predicted[1].tolist()),
        value=float(rng.normal()),
        continuation=float(rng.normal()),
        policy="value",
        arm="policy",
        temperature=0.25,
        epsilon=0.02,
        snapshot_version=_NOW_MS,
        timestamp_ms=_NOW_MS,
    )


def _click(impression: Impression) -> Interaction:
    return Interaction(
        event_id=uuid4().hex,
        user_id=impression.user_id,
        kind="click",
        content_id=impression.slate[0],
        impression_id=impression.event_id,
        timestamp_ms=_NOW_MS,
    )


def _in_memory(bench: Bench, impressions: Sequence[Impression]) -> None:
    count = len(impressions)
    records = [encode(impression) for impression in impressions]
    join, window, space = Attribution(JoinRules()), DedupWindow(count, 21_600_000), ActionSpace(VECTOR_SIZE)
    vector = np.ones(VECTOR_SIZE, np.float32)

    def open_all() -> None:
        for offset, record in enumerate(records):
            join.observe([Arrival(0, _NOW_MS, decode_event(record, Origin(EVENTS, 0, offset)))])

    def admit_all() -> None:
        for impression in impressions:
            window.admit(impression.event_id, _NOW_MS)

    def put_all() -> None:
        for content_id in range(count):
            space.put(content_id, vector)

    bench.record("learner", "an open impression, its event id with it", _grown(open_all) / count, "B", count)
    bench.record("learner", "an event id in the dedup window", _grown(admit_all) / count, "B", count)
    bench.record("serving and learner", "a content of 300 numbers", _grown(put_all) / count, "B", count)


def _grown(act: Callable[[], None]) -> float:
    """Return how many bytes more are held after an act than before it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        act()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


async def _histories(bench: Bench, url: str, users: int) -> None:
    histories = RedisUserHistory(url)
    async with Redis.from_url(url) as redis:
        before = (await redis.info("memory"))["used_memory_dataset"]
        for number in bench.progress(range(users), "histories"):
            visits = [Visit(uuid4().hex, at, _NOW_MS + at) for at in range(VISITS_KEPT)]
            await histories.append([(f"user-{number}", visit) for visit in visits])
        grown = (await redis.info("memory"))["used_memory_dataset"] - before
    await histories.close()
    bench.record("Redis", f"a user with a full history of {VISITS_KEPT}", grown / users, "B", users)


async def _log(bench: Bench, bootstrap: str, log: Path, events: dict[str, Sequence[Event]]) -> None:
    await ensure_topics(StackSettings(kafka_bootstrap_servers=bootstrap))
    producer = KafkaProducer(bootstrap)
    await producer.start()
    for name, documents in events.items():
        before = _log_bytes(log)
        records = [Outgoing(EVENTS, each.user_id.encode(), encode(each)) for each in documents]
        for start in bench.progress(range(0, len(records), _BATCH), f"appending {name}s"):
            await producer.append(records[start : start + _BATCH], 30.0)
        count = len(records)
        bench.record(name, "as JSON", sum(len(record.value or b"") for record in records) / count, "B", count)
        bench.record(name, "in the log, zstd", (_log_bytes(log) - before) / count, "B", count)
    await producer.stop()


def _log_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{EVENTS}-*/*.log"))
