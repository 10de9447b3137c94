"""A backlog on a real broker, and then a start: how fast it drains, in how much memory, and whether heartbeats go on.

Half a million events, impressions each with a click, are in the topic before learner and ingest start. *paused* trains
nothing until all is read (``MOARD_LEARNER_BACKLOG_REPLAY_RATIO=0``), *training* at the ratio that is the default. The
projector in ingest, the only member of a consumer group here, has the same backlog and the same two cores.
"""

import asyncio
import os
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import heartbeats
from benchmarks.harness import Bench
from benchmarks.traffic import shown_and_clicked
from infra.local import LocalStack
from infra.services import ServiceProcess
from libs.adapters.event_log import KafkaProducer, KafkaTopicAdmin, topic_specs
from libs.adapters.ports import Outgoing
from libs.adapters.settings import StackSettings
from libs.events.topics import EVENTS

USERS: Final = 5_000
ITEMS: Final = 2_000
VARIANTS: Final = {"paused": {"MOARD_LEARNER_BACKLOG_REPLAY_RATIO": "0"}, "training": {}}
_TARGET: Final = 20_000.0
_BOUNDS: Final = {  # reached before half of the backlog is read: what still grows after that has no bound
    "MOARD_LEARNER_CAPACITY": "50000",
    "MOARD_LEARNER_OPEN_IMPRESSIONS": "50000",
    "MOARD_LEARNER_CLOSED_IMPRESSIONS": "20000",
    "MOARD_LEARNER_DEDUP_EVENTS": "200000",
    "MOARD_LEARNER_EVALUATION_WINDOW": "5000",
}
_LOOK_S: Final = 0.5
_DEADLINE_S: Final = 600.0
_BATCH: Final = 2_000


@dataclass(slots=True)
class Reading:
    """How far the learner was, and how much memory it took, at some moments."""

    seconds: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)

    def rate(self) -> float:
        """Return events a second, from the first record to the last."""
        first = next(at for at, count in enumerate(self.read) if count > 0) if any(self.read) else 0
        first = max(0, first - 1)
        return (self.read[-1] - self.read[first]) / (self.seconds[-1] - self.seconds[first])

    def memory_at(self, share: float) -> float:
        """Return the resident memory when this share of the backlog was read."""
        wanted = share * self.read[-1]
        return next(mb for count, mb in zip(self.read, self.resident_mb, strict=True) if count >= wanted)


def run(bench: Bench) -> None:
    """Measure both variants, each on a broker of its own."""
    events = 40_000 if bench.short else 500_000
    for variant in bench.progress(list(VARIANTS), "backlog"):
        with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder, ExitStack() as stopping:
            stack = stopping.enter_context(LocalStack(Path(folder), database=False, use_external=False))
            asyncio.run(_produce(stack, events, bench.seed))
            _measure(bench, variant, stack, Path(folder), events, stopping)


def _measure(bench: Bench, variant: str, stack: LocalStack, folder: Path, events: int, stopping: ExitStack) -> None:
    environment = stack.addresses.environment() | {
        "MOARD_LOG_LEVEL": "warning",
        "MOARD_LEARNER_CHECKPOINT_PATH": str(folder / "checkpoints"),
        **_BOUNDS,
        **VARIANTS[variant],
    }
    ingest = ServiceProcess("ingest", {**environment, **heartbeats.watched(folder / "beats")}, folder)
    learner = ServiceProcess("learner", environment, folder)
    for service in (ingest, learner):
        stopping.callback(service.stop)
        service.start()
    learner.wait_ready()
    reading = _follow(learner, events)
    peak_mb = status_mb(learner.pid, "VmHWM")
    _await_projector(ingest.url)
    _record(bench, variant, events, reading, peak_mb, heartbeats.gaps(folder / "beats"))


def _record(bench: Bench, variant: str, events: int, reading: Reading, peak_mb: float, gaps: list[float]) -> None:
    bench.record(variant, "rate", reading.rate(), "events/s", n=events)
    if variant == "paused":
        bench.record(variant, "target", _TARGET, "events/s")
    bench.record(variant, "learner's memory, peak", peak_mb, "MB")
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        bench.record(variant, f"… at {share:.0%}", reading.memory_at(share), "MB")
    if gaps:
        bench.record(variant, "heartbeat gap, median", statistics.median(gaps), "s", n=len(gaps))
        bench.record(variant, "heartbeat gap, longest", max(gaps), "s", n=len(gaps))
    bench.record(variant, "a third of the session", heartbeats.SESSION_S / 3, "s")
    bench.record(variant, "load of the machine", os.getloadavg()[0], "processes")


def _follow(learner: ServiceProcess, events: int) -> Reading:
    """Read the learner's metrics until all is read."""
    reading, began = Reading(), time.monotonic()
    while not reading.read or reading.read[-1] < events:
        if time.monotonic() - began > _DEADLINE_S:
            raise TimeoutError(f"{reading.read[-1]:,.0f} of {events:,} events read. {learner.log_tail()}")
        position = sum(_samples(learner.url, "moard_learner_position", topic=EVENTS))
        reading.seconds.append(time.monotonic() - began)
        reading.read.append(position)
        reading.resident_mb.append(status_mb(learner.pid, "VmRSS"))
        time.sleep(_LOOK_S)
    return reading


def _await_projector(url: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while sum(_samples(url, "moard_projector_consumer_lag_records")) or not list(
        _samples(url, "moard_projector_consumer_lag_records")
    ):
        if time.monotonic() > deadline:
            raise TimeoutError("the projector does not come to the end of the log")
        time.sleep(_LOOK_S)


def _samples(url: str, name: str, **labels: str) -> Iterator[float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value


def status_mb(pid: int, name: str) -> float:
    """Return a figure of a process's memory, VmRSS or VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1_024


async def _produce(stack: LocalStack, events: int, seed: int) -> None:
    admin, producer = (
        KafkaTopicAdmin(stack.addresses.kafka_bootstrap_servers),
        KafkaProducer(stack.addresses.kafka_bootstrap_servers),
    )
    await admin.ensure(topic_specs(StackSettings()))
    await admin.close()
    await producer.start()
    batch: list[Outgoing] = []
    for record in backlog(events, seed):
        batch.append(record)
        if len(batch) == _BATCH:
            await _append(producer, batch)
            batch = []
    await _append(producer, batch)
    await producer.stop()


async def _append(producer: KafkaProducer, batch: list[Outgoing]) -> None:
    if not all(await producer.append(batch, 60)):
        raise RuntimeError("the broker did not take the backlog")


def backlog(events: int, seed: int) -> Iterator[Outgoing]:
    """Yield impressions, each followed by a click on it."""
    rng = random.Random(seed)
    for _ in range(events // 2):
        yield from shown_and_clicked(rng, f"user-{rng.randrange(USERS)}", ITEMS, candidates=30, history=20)
