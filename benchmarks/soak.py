"""A minute that goes wrong: 200 clients, a database that takes 200 ms for everything, a worker killed in the middle.

Two workers behind one port; the database is a real MariaDB behind a proxy that delays. One request in ten names a user
that only the database could know, one in ten a content nobody knows: these have to ask it. What counts: the longest
time in which nobody got an answer, what was answered, what broke, and what the workers hold before and after.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
import numpy as np
import orjson
from sqlalchemy import make_url

from benchmarks.harness import Bench
from benchmarks.serving_requests import TOP_CONTENTS
from benchmarks.serving_stand import USERS, fill, resident_mb, running, user
from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess
from tests.contract.catalogue_stand import create_legacy_tables

CATALOGUE: Final = 5_000
CLIENTS: Final = 200
DELAY_S: Final = 0.2
WORKERS: Final = 2
SETTLED_AT: Final = 0.25  # of the time: memory is first looked at then, when every path was taken
KILLED_AT: Final = 0.4
LOOKS: Final = 4  # at the survivor's memory, from then on


def run(bench: Bench) -> None:
    """Start everything, break it, and tell what clients saw."""
    with (
        tempfile.TemporaryDirectory(prefix="moard-bench-") as name,
        LocalStack(Path(name), use_external=False) as stack,
    ):
        environment = stack.addresses.environment()
        upgrade(environment["DATABASE_URL"])
        asyncio.run(_soak(bench, environment, Path(name)))


async def _soak(bench: Bench, environment: dict[str, str], folder: Path) -> None:
    await create_legacy_tables(environment["DATABASE_URL"])
    await fill(environment, CATALOGUE)
    database = make_url(environment["DATABASE_URL"])
    async with _slow(str(database.host), int(database.port or 3_306)) as port:
        environment |= {
            "DATABASE_URL": database.set(port=port).render_as_string(hide_password=False),
            "MOARD_SERVING_WORKERS": str(WORKERS),
            "MOARD_LOG_LEVEL": "error",
            "MOARD_STATE_PATH": str(folder / "state"),
        }
        stand = running(environment, folder)
        serving = await asyncio.to_thread(stand.__enter__)
        try:
            while await asyncio.to_thread(_ready, serving) < WORKERS:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.1)
            await _break(bench, serving, duration_s=8.0 if bench.short else 60.0)
        finally:
            await asyncio.to_thread(stand.__exit__, None, None, None)


async def _break(bench: Bench, serving: ServiceProcess, duration_s: float) -> None:
    seen = _Seen()
    load = asyncio.create_task(seen.ask(serving.url, duration_s))
    await asyncio.sleep(duration_s * SETTLED_AT)
    before = {pid: resident_mb(pid) for pid in _workers(serving)}
    await asyncio.sleep(duration_s * (KILLED_AT - SETTLED_AT))
    victim, survivor = sorted(before)
    os.kill(victim, signal.SIGKILL)
    bench.note(f"worker {victim} killed")
    bench.record("survivor", "resident before", before[survivor], "MB")
    while not load.done():
        await asyncio.wait([load], timeout=duration_s * (1 - KILLED_AT) / LOOKS)
        bench.record("survivor", "resident afterwards", resident_mb(survivor), "MB")
    await load
    bench.record("supervisor", "resident", resident_mb(serving.pid), "MB")
    bench.record("workers", "ready at the end", await asyncio.to_thread(_ready, serving), f"of {WORKERS}")
    seen.report(bench, duration_s)


class _Seen:
    """What clients were answered, and when."""

    def __init__(self) -> None:
        self._answers: Counter[str] = Counter()
        self._at: list[float] = []
        self._waited_s: list[float] = []

    async def ask(self, url: str, duration_s: float) -> None:
        """Let all clients send their next request when the last one is answered."""
        ends = time.monotonic() + duration_s
        connector = aiohttp.TCPConnector(limit=CLIENTS)
        async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
            await asyncio.gather(*(self._client(session, random.Random(number), ends) for number in range(CLIENTS)))

    async def _client(self, session: aiohttp.ClientSession, rng: random.Random, ends: float) -> None:
        while (asked := time.monotonic()) < ends:
            try:
                async with session.post(TOP_CONTENTS, data=_body(rng)) as answer:
                    await answer.read()
                    self._answers[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                self._answers[type(error).__name__] += 1
                continue
            now = time.monotonic()
            self._at.append(now)
            self._waited_s.append(now - asked)

    def report(self, bench: Bench, duration_s: float) -> None:
        """Record everything."""
        p50, p99 = np.percentile(np.array(self._waited_s) * 1e3, (50, 99)).tolist()
        total = len(self._at)
        bench.record("answers", "rate", total / duration_s, "req/s", total)
        bench.record("answers", "p50", p50, "ms", total)
        bench.record("answers", "p99", p99, "ms", total)
        bench.record("answers", "longest wait of one client", max(self._waited_s) * 1e3, "ms", total)
        bench.record("answers", "longest time without any", float(np.diff(self._at).max()) * 1e3, "ms", total)
        for answer, count in sorted(self._answers.items()):
            bench.record("clients", f"saw {answer}", count, "times", sum(self._answers.values()))


def _body(rng: random.Random) -> bytes:
    user_id = str(uuid4()) if rng.random() < 0.1 else user(rng.randrange(USERS))
    ids = rng.sample(range(CATALOGUE), 36)
    if rng.random() < 0.1:
        ids[0] = rng.randrange(10**9, 10**12)
    return orjson.dumps({"user_id": user_id, "content_ids": ids})


def _ready(serving: ServiceProcess) -> int:
    with urllib.request.urlopen(f"{serving.url}/metrics", timeout=10) as answer:
        return len(re.findall(r"^moard_serving_worker_ready\{.*\} 1\.0$", answer.read().decode(), re.MULTILINE))


def _workers(serving: ServiceProcess) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()]


@contextlib.asynccontextmanager
async def _slow(host: str, port: int) -> AsyncIterator[int]:
    """Forward connections, each piece that a client sends later by ``DELAY_S``; yield the port to connect to."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65_536):
                await asyncio.sleep(delay_s)
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        its_reader, its_writer = await asyncio.open_connection(host, port)
        with contextlib.suppress(asyncio.CancelledError):  # the end of the run; the stream's own callback would tell it
            await asyncio.gather(forward(reader, its_writer, DELAY_S), forward(its_reader, writer, 0.0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
