"""How fast one serving worker answers, beside the same calls written plainly with FastAPI and torch.

Both are running processes on the same broker and Redis, with the same catalogue, histories and net, and take turns
within each round. Every request is another user's with other candidates. ``plain_server.py`` says what the plain one
does. Then ours alone, at a fixed rate: quiet, while a snapshot arrives each second, and while a learner trains.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.busy_learner import BusyLearner, busy_learner
from benchmarks.harness import Bench
from benchmarks.load import Load, at_rate, closed, generator, warm
from benchmarks.serving_agreement import check
from benchmarks.serving_requests import JSON_BULK, OCTETS, TOP_100, kinds, train_texts
from benchmarks.serving_stand import HISTORY, fill, processor_s, publishing, running, running_plain, settings_of
from infra.local import LocalStack
from infra.services import ServiceProcess
from libs.rl.snapshot import encode as encode_snapshot

CATALOGUE: Final = 5_000
CLIENTS: Final = (1, 16)
RATE: Final = 200.0
NICE: Final = 10
TARGETS: Final = {
    ("top-contents, 36 ids, ours, 16 clients", "rate"): (950.0, "req/s, at least"),
    ("top-contents, 36 ids, ours, 16 clients", "p50"): (17.0, "ms, at most"),
    ("top-contents, 100 ids, 16 clients", "ours / plain"): (3.0, "×, at least"),
    ("bulk, JSON, 16 clients", "ours / plain"): (4.0, "×, at least"),
    ("bulk, octets, 16 clients", "ours / plain"): (10.0, "×, at least"),
    ("top-contents, 100 ids, 200/s, quiet", "p99"): (10.0, "ms, at most"),
    ("top-contents, 100 ids, 200/s", "p99, training / frozen"): (2.0, "×, at most"),
}


@dataclass(slots=True)
class Stand:
    """What is measured, and where."""

    bench: Bench
    environment: dict[str, str]
    folder: Path
    loads: dict[str, list[Load]] = field(default_factory=dict)
    costs_us: dict[str, list[float]] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often everything is measured."""
        return 1 if self.bench.short else 3

    def note(self, variant: str, load: Load) -> None:
        """Keep one measurement."""
        self.loads.setdefault(variant, []).append(load)


def run(bench: Bench) -> None:
    """Start a stack and both servers, fill them, and measure."""
    with (
        tempfile.TemporaryDirectory(prefix="moard-bench-") as name,
        LocalStack(Path(name), database=False, use_external=False) as stack,
    ):
        folder = Path(name)
        texts = train_texts(folder / "texts")
        environment = stack.addresses.environment() | {
            "MOARD_LOG_LEVEL": "warning",
            "MOARD_STATE_PATH": f"{name}/state",
            "MOARD_DOC2VEC_PATH": str(texts),
        }
        (folder / "snapshot").write_bytes(encode_snapshot(asyncio.run(fill(environment, CATALOGUE))))
        bench.note(f"closed load: {generator()}; {CATALOGUE:,} contents, histories of {HISTORY}, one worker")
        stand = Stand(bench, environment, folder)
        with running(environment, folder) as serving:
            with running_plain(environment, folder, CATALOGUE, texts) as plain:
                asyncio.run(_compare(stand, serving, plain))
            asyncio.run(_at_fixed_rate(stand, serving.url))
        _report(stand)


async def _compare(stand: Stand, serving: ServiceProcess, plain: str) -> None:
    """Measure both servers, in turns, with clients that wait for their answers."""
    bench, asked = stand.bench, {one.name: one for one in kinds(stand.bench.seed, CATALOGUE)}
    bench.record("both servers", "largest difference of values", check(serving.url, plain, asked), "of 1", 5)
    servers = {"ours": serving.url, "plain": plain}
    for requests in asked.values():
        for name, url in servers.items():
            if requests.name != OCTETS or name == "ours":  # the plain server knows JSON alone
                await warm(url, requests)
    duration_s = 1.0 if bench.short else 3.0
    turns = [
        (requests, clients, name)
        for requests in asked.values()
        for clients in (CLIENTS[-1:] if bench.short else CLIENTS)
        for name in servers
        if requests.name != OCTETS or name == "ours"
    ]
    for turn in range(stand.rounds):
        shift = turn * len(turns) // stand.rounds
        for requests, clients, name in bench.progress(turns[shift:] + turns[:shift], f"round {turn + 1}"):
            used = processor_s(serving.pid)
            load = await closed(servers[name], requests, clients, duration_s, stand.folder)
            stand.note(f"{requests.name}, {name}, {clients} client{'s' * (clients > 1)}", load)
            if name == "ours":
                cost_us = (processor_s(serving.pid) - used) / load.requests * 1e6
                stand.costs_us.setdefault(requests.name, []).append(cost_us)


async def _at_fixed_rate(stand: Stand, url: str) -> None:
    """Measure ours at a fixed rate: quiet, with snapshots, and beside a learner that trains and one that is frozen."""
    requests = next(one for one in kinds(stand.bench.seed, CATALOGUE) if one.name == TOP_100)
    duration_s, settings = 3.0 if stand.bench.short else 10.0, settings_of(stand.environment)

    async def measure(variant: str) -> None:
        stand.note(f"{TOP_100}, {RATE:.0f}/s, {variant}", await at_rate(url, requests, RATE, duration_s))

    for _ in stand.bench.progress(range(stand.rounds), "fixed rate", stand.rounds):
        async with publishing(settings, CATALOGUE):
            await measure("a snapshot each second")
        await measure("quiet")
    async with busy_learner(stand.environment, stand.folder, CATALOGUE, 0) as learner:
        for _ in stand.bench.progress(range(stand.rounds), "beside a learner", stand.rounds):
            learner.pause()
            await measure("learner frozen")
            learner.resume()
            await _training(stand, learner, measure("training"))
    if stand.bench.short:
        return
    async with busy_learner(stand.environment, stand.folder, CATALOGUE, NICE) as learner:
        for _ in stand.bench.progress(range(stand.rounds), "beside a learner that yields", stand.rounds):
            await _training(stand, learner, measure(f"training, nice {NICE}"))


async def _training(stand: Stand, learner: BusyLearner, measuring: Awaitable[None]) -> None:
    before, started = learner.updates(), time.perf_counter()
    await measuring
    stand.bench.record("learner", "updates", (learner.updates() - before) / (time.perf_counter() - started), "1/s")


def _report(stand: Stand) -> None:
    bench = stand.bench
    for variant, loads in stand.loads.items():
        asked = sum(load.requests for load in loads)
        for metric, values, unit in (
            ("rate", [load.rate for load in loads], "req/s"),
            ("p50", [load.p50_ms for load in loads], "ms"),
            ("p99", [load.p99_ms for load in loads], "ms"),
        ):
            bench.record(variant, metric, statistics.median(values), unit, asked)
    for kind, measured in stand.costs_us.items():
        bench.record(kind, "processor time of serving", statistics.median(measured), "µs/request", len(measured))
    _report_ratios(stand)
    for (variant, metric), (value, unit) in TARGETS.items():
        bench.record(variant, f"target of {metric}", value, unit)


def _report_ratios(stand: Stand) -> None:
    for variant, loads in stand.loads.items():
        if ", ours, " in variant:
            other = stand.loads[variant.replace(OCTETS, JSON_BULK).replace(", ours, ", ", plain, ")]
            ratio = statistics.median(one.rate / two.rate for one, two in zip(loads, other, strict=True))
            stand.bench.record(variant.replace(", ours, ", ", "), "ours / plain", ratio, "×", len(loads))
    label = f"{TOP_100}, {RATE:.0f}/s"
    frozen = stand.loads[f"{label}, learner frozen"]
    for training in ("training", f"training, nice {NICE}"):
        loads = stand.loads.get(f"{label}, {training}", [])
        if not loads:
            continue  # a short round
        slower = statistics.median(one.p99_ms / two.p99_ms for one, two in zip(loads, frozen, strict=True))
        stand.bench.record(label, f"p99, {training} / frozen", slower, "×", len(loads))
