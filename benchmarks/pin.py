"""How long after ``model/change`` the last answer of any worker still comes from the snapshot before.

Two workers behind one address, a real broker and Redis, two kept snapshots that are pinned in turn. Eight clients rank
all the while, each request over a connection of its own so that both workers are asked.
"""

import asyncio
import statistics
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.harness import Bench
from benchmarks.serving_stand import fill, publish, running, settings_of
from infra.local import LocalStack

CATALOGUES: Final = (5_000, 50_000)
CLIENTS: Final = 8
CHANGES: Final = 12
WATCHED_S: Final = 2.5
OBEYED_S: Final = 2.3  # what comes later may be followed by another one that nobody saw
NAMES: Final = ("tuesday", "wednesday")


def run(bench: Bench) -> None:
    """Pin over each catalogue several times."""
    for catalogue in CATALOGUES[: 1 if bench.short else None]:
        with (
            tempfile.TemporaryDirectory(prefix="moard-bench-") as folder,
            LocalStack(Path(folder), database=False, use_external=False) as stack,
        ):
            environment = stack.addresses.environment() | {
                "MOARD_LOG_LEVEL": "warning",
                "MOARD_STATE_PATH": f"{folder}/state",
                "MOARD_SERVING_WORKERS": "2",
            }
            asyncio.run(fill(environment, catalogue))
            with running(environment, Path(folder)) as serving:
                asyncio.run(_changes(bench, environment, serving.url, catalogue))
    bench.record("target", "last answer from the snapshot before, worst", 1.0, "s")


async def _changes(bench: Bench, environment: dict[str, str], url: str, catalogue: int) -> None:
    connector = aiohttp.TCPConnector(force_close=True, limit=4 * CLIENTS)
    async with aiohttp.ClientSession(f"{url}/api/v1/", connector=connector) as client:
        versions = {}
        for name in NAMES:
            await publish(settings_of(environment), catalogue)
            newest = (await _json(client, "GET", "snapshots"))["snapshots"][0]
            versions[name] = newest["version"]
            await _json(client, "POST", f"snapshots/{newest['version']}/keep?name={name}")
        label = f"{catalogue:,} contents, {newest['size_bytes'] / 1e6:.1f} MB"
        changes = 4 if bench.short else CHANGES
        names = bench.progress(islice(cycle(NAMES), changes), label, total=changes)
        lasts = [await _change(client, name, versions[name]) for name in names]
        bench.record(label, "last answer from the snapshot before, median", statistics.median(lasts), "s", changes)
        bench.record(label, "last answer from the snapshot before, worst", max(lasts), "s", changes)


async def _change(client: aiohttp.ClientSession, name: str, version: int) -> float:
    """Return when the last answer from another snapshot came, in seconds after the change was asked for."""
    started, last = time.perf_counter(), 0.0

    async def ask() -> None:
        nonlocal last
        body = {"user_id": "somebody", "candidates": list(range(36))}
        while time.perf_counter() - started < WATCHED_S:
            answer = await _json(client, "POST", "rank", json=body)
            if answer["snapshot_version"] != version:
                last = time.perf_counter() - started

    clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
    await _json(client, "POST", f"model/change?model_name={name}")
    await asyncio.gather(*clients)
    if last > OBEYED_S:
        raise RuntimeError(f"{name} was not obeyed within {OBEYED_S} s")
    return last


async def _json(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Any:
    async with client.request(method, path, **options) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")
        return await answer.json()
