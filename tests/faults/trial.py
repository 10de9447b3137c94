"""One trial of a row with one seed: everything a row injects faults into, and the writing of the history."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer

from infra.kafka_server import BrokerProfile
from infra.local import LocalStack
from infra.services import ROOT, ServiceName
from tests.faults.history import LEDGER, LOG, Injected, Noted, Recorder, Recovered, write_ids
from tests.faults.watching import Pointer, watching_pointer, watching_serving
from tests.faults.workload import Backend, playing
from tests.running_system import RunningSystem, eventually, running_system

T = TypeVar("T")
EVENTS = "moard.events"
PACE_S = 0.02
DEADLINE_S = 240.0
"""Longest wait for something to work: a bound against hanging, not a measurement. The machine may be busy."""
SETTINGS: Mapping[str, str] = {
    "MOARD_LEARNER_LEARNING_STARTS": "1",
    "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "1",
    "MOARD_LEARNER_SNAPSHOT_INTERVAL_S": "0.5",
    "MOARD_LEARNER_CAPACITY": "20000",
}
"""Learn from the first row on, and save and publish often: the more there is to interrupt."""


@dataclass
class Trial:
    """What a row's ``run`` is given.

    Attributes
    ----------
    seed, chance
        Everything drawn comes from here.
    short
        Whether this is the form that every run of the tests makes: 25 seconds at most.
    folder
        For the servers and services of this trial.
    history
        Where to write down what was seen.
    """

    seed: int
    short: bool
    folder: Path
    history: Recorder
    chance: Random = field(init=False)
    pointer: Pointer = field(init=False)
    _backends: list[Backend] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = Random(self.seed)

    # ---- bringing things up

    @contextmanager
    def stack(
        self, *, broker_profile: BrokerProfile = "pause", database: bool = False, broker_proxied_at: int | None = None
    ) -> Iterator[LocalStack]:
        """Kafka and Redis of this trial's own, and MariaDB with ``database``, else an SQLite file."""
        with LocalStack(
            self.folder / "stack",
            broker_profile=broker_profile,
            database=database,
            use_external=False,
            broker_proxied_at=broker_proxied_at,
        ) as stack:
            yield stack

    @contextmanager
    def under_load(
        self,
        stack: LocalStack,
        settings: Mapping[str, str] | None = None,
        own: Mapping[ServiceName, Mapping[str, str]] | None = None,
        backends: int = 1,
    ) -> Iterator[RunningSystem]:
        """The three services, watched, with users at work; at the end everything is drained and written down.

        Parameters
        ----------
        settings
            Of all services, beside ``SETTINGS``.
        own
            Of single services, beside those.
        backends
            How many clients work at a time.
        """
        with self.watched(stack, settings, own) as system:
            with self.users(system, backends):
                self.await_snapshot()
                yield system
            self.drain(system)

    @contextmanager
    def watched(
        self,
        stack: LocalStack,
        settings: Mapping[str, str] | None = None,
        own: Mapping[ServiceName, Mapping[str, str]] | None = None,
    ) -> Iterator[RunningSystem]:
        """The three services and what they publish; at the end the learner is stopped, ledger and log written down."""
        with (
            running_system(stack, self.folder, {**SETTINGS, **(settings or {})}, own) as system,
            watching_pointer(stack.addresses.redis_url, self.history) as self.pointer,
        ):
            yield system
            self.export(system)

    @contextmanager
    def users(self, system: RunningSystem, backends: int = 1) -> Iterator[None]:
        """Users at work beside the block, serving asked all the time; at the end all they did is acknowledged."""
        backs = [self.backend(system) for _ in range(backends)]
        with watching_serving(system.serving.url, self.history), playing(backs, PACE_S):
            yield

    def backend(self, system: RunningSystem) -> Backend:
        """Return one more client."""
        name = f"backend-{len(self._backends) + 1}"
        self._backends.append(Backend(name, self.seed, system.ingest.url, system.serving.url, self.history))
        return self._backends[-1]

    def close(self) -> None:
        """Close the clients' connections."""
        for backend in self._backends:
            backend.http.close()

    # ---- faults and recoveries

    def inject(self, what: str) -> None:
        """Write down that a fault is injected now."""
        self.history.add(Injected(what))

    @contextmanager
    def recovering(self, what: str) -> Iterator[None]:
        """Write down how long the block took: from the end of a fault to when things work again."""
        began = time.monotonic()
        yield
        self.history.add(Recovered(what, round(time.monotonic() - began, 3)))

    def note(self, name: str, value: Any) -> None:
        """Write down what the row's own check needs."""
        self.history.add(Noted(name, value))

    def choose(self, *, full: T, short: T) -> T:
        """Return what belongs to this form of the trial."""
        return short if self.short else full

    def pause(self, least_s: float, most_s: float) -> None:
        """Let a random time pass."""
        time.sleep(self.chance.uniform(least_s, most_s))

    def await_snapshot(self) -> None:
        """Return once a snapshot is published that is newer than the newest seen so far."""
        before = self.pointer.version
        eventually(lambda: self.pointer.version > before, f"a snapshot newer than {before}", deadline_s=DEADLINE_S)

    # ---- the end

    def drain(self, system: RunningSystem) -> None:
        """Return once the learner has read all that the log holds; impressions may come a little after their users."""
        ends = self.log_ends(system)

        def read() -> bool:
            return all(
                system.learner_metric("position", topic=EVENTS, partition=str(partition)) >= end
                for partition, end in ends.items()
            )

        eventually(read, f"the learner to read up to {ends}", deadline_s=DEADLINE_S)
        if self.log_ends(system) != ends:
            self.drain(system)

    def log_ends(self, system: RunningSystem) -> dict[int, int]:
        """Return where each partition of the events ends, as the broker says."""
        return asyncio.run(_log_ends(system.stack.addresses.kafka_bootstrap_servers))

    def export(self, system: RunningSystem) -> None:
        """Stop the learner as an operator does, and write down its ledger and what the log holds."""
        self.note("learner_exit", system.learner.stop(DEADLINE_S))
        command = [sys.executable, "-m", "services.learner.ledger", str(system.checkpoints)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        write_ids(self.history.folder / LEDGER, map(json.loads, printed.stdout.splitlines()))
        logged = asyncio.run(_log_ids(system.stack.addresses.kafka_bootstrap_servers))
        write_ids(self.history.folder / LOG, logged)


async def _log_ends(servers: str) -> dict[int, int]:
    async with AIOKafkaConsumer(EVENTS, bootstrap_servers=servers) as consumer:
        return {tp.partition: end for tp, end in (await consumer.end_offsets(consumer.assignment())).items()}


async def _log_ids(servers: str) -> list[str]:
    """Return the event ids in the log, as often as they are there; what is no event has none."""
    ids: list[str] = []
    async with AIOKafkaConsumer(EVENTS, bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                ids += [event_id for record in records if (event_id := _event_id(record.value)) is not None]
    return ids


def _event_id(value: bytes) -> str | None:
    try:
        event = json.loads(value)
    except ValueError:
        return None
    return event.get("event_id") if isinstance(event, dict) else None
