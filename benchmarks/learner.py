"""Events per second through the learner: decoded, joined, inserted and trained on.

The whole learner runs, in this process, on the in-memory log: a broker beside it would share its processor, and its
consumer alone is 20 times faster than what is measured here. Half of the events are impressions, half are clicks that
name them. *sustained* trains at replay ratio 4 all the while; *catching up* has training paused until the backlog is
gone, as ``MOARD_LEARNER_BACKLOG_REPLAY_RATIO=0`` does.
"""

import asyncio
import random
import tempfile
import time
from typing import Final

from prometheus_client import CollectorRegistry

from benchmarks.harness import Bench
from benchmarks.traffic import shown_and_clicked
from libs.adapters.event_log import topic_specs
from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer, MemorySnapshotStore, MemoryTopicAdmin
from libs.adapters.ports import Outgoing
from libs.adapters.telemetry import configure_logging
from libs.events.codec import encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from services.learner.assembly import Learner, Ports
from services.learner.process import prepare_interpreter
from services.learner.settings import Settings

USERS: Final = 5_000
ITEMS: Final = 2_000
SLATE: Final = 6
CANDIDATES: Final = 30
HISTORY: Final = 20
RATIO: Final = 4.0
VARIANTS: Final = {"sustained": (15_000, RATIO), "catching up": (50_000, 0.0)}  # impressions, ratio while behind
TARGETS: Final = {"sustained": 3_000, "catching up": 20_000}


async def run(bench: Bench) -> None:
    """Measure both variants, each on a log of its own."""
    configure_logging("warning")
    prepare_interpreter()
    impressions = (
        {"sustained": 2_000, "catching up": 5_000} if bench.short else {"sustained": 15_000, "catching up": 50_000}
    )
    for variant in bench.progress(list(impressions), "learner"):
        log = make_log(impressions[variant], bench.seed)
        paused = variant == "catching up"
        await _measure(bench, variant, log, impressions[variant], backlog_ratio=0.0 if paused else RATIO)


def make_log(impressions: int, seed: int) -> MemoryLog:
    """Return a log with a catalogue and impressions, each followed by a click on it."""
    rng = random.Random(seed)
    log = MemoryLog()
    for spec in topic_specs(Settings()):
        log.create(spec)
    for content_id in range(ITEMS):
        content = Content(content_id=content_id, embedding=tuple(rng.gauss(0, 1) for _ in range(300)))
        log.append(Outgoing(CONTENTS, content_key(content_id), encode(content)))
    for number in range(impressions):
        user_id = f"user-{rng.randrange(USERS)}"
        for record in shown_and_clicked(rng, user_id, ITEMS, candidates=CANDIDATES, history=HISTORY, version=number):
            log.append(record)
    return log


async def _measure(bench: Bench, variant: str, log: MemoryLog, impressions: int, backlog_ratio: float) -> None:
    with tempfile.TemporaryDirectory(prefix="moard-bench-") as folder:
        settings = Settings(
            learner_checkpoint_path=folder,
            learner_replay_ratio=RATIO,
            learner_backlog_replay_ratio=backlog_ratio,
            learner_learning_starts=500,
            learner_capacity=200_000,
        )
        registry = CollectorRegistry()
        ports = Ports(
            MemoryTopicAdmin(log), MemoryProducer(log), MemoryPartitionReader(log, "bench"), MemorySnapshotStore()
        )
        learner = Learner(settings, ports, registry)
        async with learner.running():  # restoring and importing torch's optimisers are not what is measured
            began, busy = time.perf_counter(), time.process_time()
            while (registry.get_sample_value("moard_learner_rows_inserted_total") or 0) < impressions:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the metric is set by another thread, which knows no event
            seconds, busy = time.perf_counter() - began, time.process_time() - busy
            samples = registry.get_sample_value("moard_learner_samples_total") or 0
    events = 2 * impressions
    bench.record(variant, "rate", events / seconds, "events/s", n=events)
    bench.record(variant, "target", TARGETS[variant], "events/s")
    bench.record(variant, "processor", 1e6 * busy / events, "µs/event", n=events)
    bench.record(variant, "replay ratio", samples / impressions, "samples/row", n=impressions)
