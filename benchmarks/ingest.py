"""Events per second through the running ingest process, into a real broker with ``acks=all``.

Clients hold their connections open and post batches of 100, each waiting for its 202. Bodies are made beforehand, so
that the load generator, which shares the machine, costs little. Besides the rate, the processor time that the ingest
process spends on each event is shown: it says the same on a busy machine.
"""

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from benchmarks.harness import Bench
from infra.local import LocalStack
from infra.migrations import upgrade
from infra.services import ServiceProcess

BATCH: Final = 100
BODIES: Final = 200
CONNECTIONS: Final = 8
USERS: Final = 10_000
CONTENTS: Final = 2_000
TARGET: Final = 20_000

Event = dict[str, Any]


def click(rng: random.Random) -> Event:
    """Return a click without an id: ingest gives it one, so that every body may be sent again and again."""
    return {
        "type": "interaction",
        "user_id": f"user-{rng.randrange(USERS)}",
        "kind": "click",
        "content_id": rng.randrange(CONTENTS),
        "impression_id": f"{rng.getrandbits(128):032x}",
        "timestamp_ms": time.time_ns() // 1_000_000,
    }


def mixed(rng: random.Random) -> Event:
    """Return what a backend with rankings of its own sends: impressions, glances, a few clicks."""
    drawn = rng.random()
    if drawn < 0.2:
        return {
            "type": "impression",
            "user_id": f"user-{rng.randrange(USERS)}",
            "slate": rng.sample(range(CONTENTS), 10),
            "history": rng.sample(range(CONTENTS), 10),
            "history_age_s": [rng.random() * 1e5 for _ in range(10)],
            "timestamp_ms": time.time_ns() // 1_000_000,
        }
    event = click(rng)
    return event if drawn < 0.4 else event | {"kind": "view", "dwell_ms": rng.randrange(20_000)}


def bodies(make: Callable[[random.Random], Event], seed: int) -> list[bytes]:
    """Return request bodies, ready to be sent."""
    rng = random.Random(seed)
    return [orjson.dumps({"events": [make(rng) for _ in range(BATCH)]}) for _ in range(BODIES)]


def run(bench: Bench) -> None:
    """Start a stack and ingest, and measure."""
    with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder:
        stack = LocalStack(Path(folder), database=False, use_external=False)
        with stack:
            environment = stack.addresses.environment()
            upgrade(environment["DATABASE_URL"])
            ingest = ServiceProcess("ingest", environment | {"MOARD_LOG_LEVEL": "warning"}, Path(folder))
            ingest.start()
            try:
                ingest.wait_ready()
                asyncio.run(_measure(bench, ingest))
            finally:
                ingest.stop()


async def _measure(bench: Bench, ingest: ServiceProcess) -> None:
    round_s, rounds = (2.0, 2) if bench.short else (8.0, 5)
    variants = {"clicks": bodies(click, bench.seed), "mixed": bodies(mixed, bench.seed)}
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in variants}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _drive(session, ingest, variants["clicks"], 1.0)  # connections, caches, the first visits
        for _ in bench.progress(range(rounds), "rounds", rounds):
            for name, prepared in variants.items():
                results[name].append(await _drive(session, ingest, prepared, round_s))
                await _settled(session, ingest)
    for name, measured in results.items():
        rates, costs, latencies = zip(*measured, strict=True)
        bench.record(name, "rate", statistics.median(rates), "events/s", rounds)
        bench.record(name, "rate, best round", max(rates), "events/s", rounds)
        bench.record(name, "processor time of ingest", statistics.median(costs), "µs/event", rounds)
        bench.record(name, "latency of a batch, p50", statistics.median(latencies), "ms", rounds)
    bench.note(f"batches of {BATCH}, {CONNECTIONS} connections, acks=all; target {TARGET:,} events/s")


async def _drive(
    session: aiohttp.ClientSession, ingest: ServiceProcess, prepared: Sequence[bytes], duration_s: float
) -> tuple[float, float, float]:
    """Return events per second, µs of processor time per event, and the median latency in ms."""
    latencies: list[float] = []
    queue = cycle(prepared)
    started, used = time.perf_counter(), _processor_s(ingest.pid)

    async def client() -> None:
        while time.perf_counter() - started < duration_s:
            asked = time.perf_counter()
            async with session.post(f"{ingest.url}/api/v1/events", data=next(queue)) as answer:
                body = await answer.read()
                if answer.status != 202:
                    raise RuntimeError(f"ingest answered {answer.status}: {body[:300]!r}")
            latencies.append(time.perf_counter() - asked)

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    elapsed, events = time.perf_counter() - started, len(latencies) * BATCH
    cost = (_processor_s(ingest.pid) - used) / events
    return events / elapsed, cost * 1e6, statistics.median(latencies) * 1e3


async def _settled(session: aiohttp.ClientSession, ingest: ServiceProcess) -> None:
    """Return when the projector has caught up, so that every round begins alike."""
    await _eventually(lambda: _lag(session, ingest), "the projector to catch up")


async def _lag(session: aiohttp.ClientSession, ingest: ServiceProcess) -> bool:
    async with session.get(f"{ingest.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return all(float(line.split()[-1]) == 0 for line in lines if line.startswith("moard_projector_consumer_lag"))


async def _eventually(done: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 60.0) -> None:
    deadline = time.perf_counter() + deadline_s
    while not await done():
        if time.perf_counter() > deadline:
            raise RuntimeError(f"waited {deadline_s:.0f} s for {what}")
        await asyncio.sleep(0.2)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
