"""F14: a backlog that the learner and the projector meet when they start."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice

import orjson

from benchmarks import heartbeats
from benchmarks.backlog import backlog, status_mb
from infra.services import ServiceName
from libs.adapters.event_log import KafkaProducer
from libs.events.topics import EVENTS
from tests.faults.checker import EVERY
from tests.faults.history import Acknowledged, History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem, eventually

BOUNDS = {  # small, so that all are reached well before the backlog is read
    "MOARD_LEARNER_CAPACITY": "1000",
    "MOARD_LEARNER_OPEN_IMPRESSIONS": "1000",
    "MOARD_LEARNER_CLOSED_IMPRESSIONS": "1000",
    "MOARD_LEARNER_DEDUP_EVENTS": "200000",
    "MOARD_LEARNER_QUEUE_CHANGES": "1000",
    "MOARD_LEARNER_EVALUATION_WINDOW": "1000",
    "MOARD_LEARNER_BACKLOG_REPLAY_RATIO": "0.1",
}
BATCH = 2_000
GROWTH_MB = 120.0  # of the second half: a queue without bound takes 500 MB for a backlog of half a million events


def run(trial: Trial) -> None:
    beats = trial.folder / "beats"
    own: dict[ServiceName, Mapping[str, str]] = {"ingest": heartbeats.watched(beats)}
    with trial.stack() as stack, trial.under_load(stack, settings=BOUNDS, own=own) as system:
        trial.note("learner_stopped", system.learner.stop())
        trial.inject("a backlog, and then a start")
        events = trial.choose(full=500_000, short=10_000)
        asyncio.run(append(trial, stack.addresses.kafka_bootstrap_servers, events))
        with trial.recovering("the backlog is drained"):
            system.learner.start()
            system.learner.wait_ready(DEADLINE_S)
            trial.note("resident_mb", follow(system, events))
        trial.note("heartbeat_gap_s", max(heartbeats.gaps(beats), default=0.0))


async def append(trial: Trial, servers: str, events: int) -> None:
    """Produce to Kafka directly, as a backend may; what the broker has counts as acknowledged."""
    producer, records = KafkaProducer(servers), backlog(events, trial.seed)
    await producer.start()
    while batch := list(islice(records, BATCH)):
        assert all(await producer.append(batch, DEADLINE_S))
        trial.history.add(Acknowledged(tuple(orjson.loads(record.value or b"")["event_id"] for record in batch)))
    await producer.stop()


def follow(system: RunningSystem, events: int) -> list[tuple[float, float]]:
    """Return how many records were read and how much memory was taken, again and again until all is read."""
    readings: list[tuple[float, float]] = []

    def drained() -> bool:
        read = system.learner_metric("position", topic=EVENTS)
        readings.append((read, round(status_mb(system.learner.pid, "VmRSS"), 1)))
        return read >= events and system.learner_metric("consumer_lag_records", topic=EVENTS) == 0

    eventually(drained, f"{events} events to be read", deadline_s=5 * DEADLINE_S)
    return readings


def heartbeats_went_on(history: History) -> Iterator[str]:
    """While all was read, the projector's heartbeats were less than a third of its session apart."""
    for gap_s in history.noted("heartbeat_gap_s"):
        if not 0 < gap_s < heartbeats.SESSION_S / 3:
            yield f"{gap_s:.1f} s between two heartbeats of the projector; its session is {heartbeats.SESSION_S:.0f} s"


def memory_is_flat(history: History) -> Iterator[str]:
    """Once every bound is reached, nothing grows with what is left of the backlog."""
    for readings in history.noted("resident_mb"):
        half = max(read for read, _ in readings) / 2
        second = [resident_mb for read, resident_mb in readings if read >= half]
        if (growth := max(second) - second[0]) > GROWTH_MB:
            yield f"the learner grew by {growth:.0f} MB while it read the second half of the backlog"


ROW = Row(
    "F14",
    fault="a backlog of 500,000 events, then a start",
    must_hold="it drains; memory is flat; heartbeats of the projector less than a third of its session apart",
    run=run,
    checks=(*EVERY, heartbeats_went_on, memory_is_flat),
)
