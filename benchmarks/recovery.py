"""How long an emptied Redis stays empty: until the snapshot is back, and until every history is.

A running system, on a real broker and Redis, ranks and takes clicks; then Redis loses everything, several times, while
a client goes on asking for rankings.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from benchmarks.harness import Bench
from infra.local import LocalStack
from infra.services import ServiceName, ServiceProcess
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory

USERS: Final = [f"user-{number}" for number in range(200)]
CONTENTS: Final = list(range(1, 31))
SERVICES: Final[tuple[ServiceName, ...]] = ("ingest", "learner", "serving")
DEADLINE_S: Final = 60.0


def run(bench: Bench) -> None:
    """Start the whole system, fill it, and empty its Redis."""
    with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder, ExitStack() as stopping:
        stack = stopping.enter_context(LocalStack(Path(folder), database=False, use_external=False))
        environment = stack.addresses.environment() | {
            "MOARD_LOG_LEVEL": "warning",
            "MOARD_STATE_PATH": f"{folder}/state",
            "MOARD_LEARNER_CHECKPOINT_PATH": f"{folder}/checkpoints",
            "MOARD_LEARNER_LEARNING_STARTS": "1",
        }
        urls: dict[str, str] = {}
        for name in SERVICES:
            service = ServiceProcess(name, environment, Path(folder))
            stopping.callback(service.stop)
            service.start()
            service.wait_ready()
            urls[name] = service.url
        asyncio.run(_measure(bench, urls, stack.addresses.redis_url))


async def _measure(bench: Bench, urls: dict[str, str], redis_url: str) -> None:
    snapshots, histories = RedisSnapshotStore(redis_url, "moard"), RedisUserHistory(redis_url)
    async with aiohttp.ClientSession() as http, Redis.from_url(redis_url) as redis:
        for user in bench.progress(USERS, "ranking and clicking"):
            await _click_something(http, urls, user)
        await _until(lambda: _published(snapshots))
        statuses: list[int] = []
        polling = asyncio.create_task(_keep_asking(http, urls, statuses))
        back: list[tuple[float, float]] = []
        for _ in bench.progress(range(2 if bench.short else 10), "emptying Redis"):
            before = await _all_histories(histories)
            await redis.flushall()
            again = _until(lambda: _published(snapshots)), _until(partial(_are_back, histories, before))
            back.append(await asyncio.gather(*again))
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
    await asyncio.gather(snapshots.close(), histories.close())
    for what, seconds in zip(("snapshot", "histories"), zip(*back, strict=True), strict=True):
        bench.record(f"{what} back", "median", statistics.median(seconds), "s", len(back))
        bench.record(f"{what} back", "longest", max(seconds), "s", len(back))
    bench.record("rankings meanwhile", "answers", len(statuses), "requests")
    bench.record("rankings meanwhile", "not 200", sum(status != 200 for status in statuses), "requests")


async def _click_something(http: aiohttp.ClientSession, urls: dict[str, str], user: str) -> None:
    shown = {"user_id": user, "candidates": CONTENTS, "size": 5}
    async with http.post(f"{urls['serving']}/api/v1/rank", json=shown, raise_for_status=True) as answer:
        ranking = await answer.json()
    click = {
        "type": "interaction",
        "kind": "click",
        "event_id": uuid4().hex,
        "user_id": user,
        "content_id": ranking["slate"][0]["content_id"],
        "impression_id": ranking["impression_id"],
    }
    async with http.post(f"{urls['ingest']}/api/v1/events", json=click, raise_for_status=True):
        pass


async def _keep_asking(http: aiohttp.ClientSession, urls: dict[str, str], statuses: list[int]) -> None:
    while True:
        body = {"user_id": USERS[len(statuses) % len(USERS)], "candidates": CONTENTS, "size": 5}
        async with http.post(f"{urls['serving']}/api/v1/rank", json=body) as answer:
            statuses.append(answer.status)
        await asyncio.sleep(0.01)


async def _until(holds: Callable[[], Awaitable[bool]]) -> float:
    """Return after how many seconds something was so."""
    began = time.perf_counter()
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():  # noqa: ASYNC110 - nobody tells when a store has something again
            await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def _published(snapshots: RedisSnapshotStore) -> bool:
    return await snapshots.current() is not None


async def _are_back(histories: RedisUserHistory, wanted: list[list[str]]) -> bool:
    return await _all_histories(histories) == wanted


async def _all_histories(histories: RedisUserHistory) -> list[list[str]]:
    """Return the event ids; times may differ by the few milliseconds between ingest's clock and the broker's."""
    found = await asyncio.gather(*(histories.recent(user, 30) for user in USERS))
    return [[visit.event_id for visit in visits] for visits in found]
