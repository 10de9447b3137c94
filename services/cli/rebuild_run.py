"""One rebuild: the learner itself, on a log that ends, into a folder of its own."""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from rich.progress import Progress

from libs.adapters.log_range import LogRange, Span
from libs.adapters.memory import MemorySnapshotStore
from libs.adapters.ports import Outgoing, PartitionReader, Place, TopicPartition, TopicSpec
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.topics import CONTENTS, EVENTS
from libs.rl.agent import Agent
from libs.rl.snapshot import Snapshot
from services.cli.evaluation_input import Range
from services.cli.export_reader import ExportReader
from services.cli.range_reader import CatalogueFirst, RangeReader, spans_of
from services.cli.rebuild_plan import Plan, named, told_of
from services.learner import checkpoint_files
from services.learner.assembly import Learner, Ports
from services.learner.checkpoint import part_of, rows_before
from services.learner.checkpoint_files import Manifest
from services.learner.log_watch import Stalled
from services.learner.settings import Settings

_SELDOM_S: Final = 86_400.0  # snapshots on the way are of no use to anybody
_LOOK_S: Final = 0.2  # between two looks at how far it came


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: events and, unless contents shall have no vectors, the catalogue.

    ``identity`` is what cannot be mistaken for another log: the id of the Kafka cluster, the SHA-256 of an export.
    """

    events: PartitionReader
    catalogue: PartitionReader | None
    identity: str
    events_partitions: int
    contents_partitions: int = 1


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came out: the last checkpoint and its weights as a snapshot."""

    manifest: Manifest
    snapshot: Snapshot
    rows: int
    unusable: int

    @property
    def weights(self) -> str:
        """SHA-256 of everything that ranks: equal for equal weights. Blobs may differ, in the order of their header."""
        digest = hashlib.sha256()
        for part in fields(self.snapshot):
            value = getattr(self.snapshot, part.name)
            named = value if isinstance(value, dict) else {"": value}
            for name in sorted(named):
                digest.update(f"{part.name}/{name}/".encode())
                each = named[name]
                digest.update(each.tobytes() if isinstance(each, np.ndarray) else repr(each).encode())
        return digest.hexdigest()


def learning_settings(settings: Settings, folder: Path, model: str, seed: int, source: Source) -> Settings:
    """Return the settings as a rebuild learns with them; raises ``RefusedStart`` when they do not go together."""
    own = {
        "model_name": model,
        "learner_checkpoint_path": str(folder),
        "learner_schedule": "log",
        "learner_seed": seed,
        "learner_snapshot_interval_s": _SELDOM_S,
        "learner_abandon_checkpoint": "",
        "learner_allow_gap": False,
        "events_partitions": source.events_partitions,
        "contents_partitions": source.contents_partitions,
    }
    try:
        return Settings(**(settings.model_dump() | own))
    except ValidationError as error:
        raise RefusedStart("; ".join(str(each["msg"]) for each in error.errors())) from error


async def planned(folder: Path, settings: Settings, source: Source, wanted: Range, asked: tuple[str, str]) -> Plan:
    """Return what the folder's rebuild is about; a new one takes the range as the log is now.

    Raises
    ------
    RefusedStart
        The log does not hold the range, or the folder is about something else.
    """
    plan, told = Plan.load(folder), told_of(settings)
    if plan is not None:
        plan.require(folder, source.identity, asked, told)
        return plan
    if isinstance(source.events, ExportReader):
        spans = source.events.spans
    else:
        tps = [TopicPartition(EVENTS, number) for number in range(source.events_partitions)]
        spans = await spans_of(source.events, tps, wanted)
        await source.events.stop()
    contents = {TopicPartition(CONTENTS, number): Span(0, 0) for number in range(source.contents_partitions)}
    if source.catalogue is not None:
        contents = await LogRange(source.catalogue, list(contents)).extent()
        await source.catalogue.stop()
    plan = Plan(settings.model_name, source.identity, asked, named((spans | contents).items()), told)
    plan.save(folder)
    return plan


async def learned(plan: Plan, settings: Settings, source: Source, bar: Progress) -> int | None:
    """Learn what is left of the range; return how many records were of no use, None when it was stopped before.

    Interrupted (SIGINT, SIGTERM) it saves what it has; killed, it goes on from the last checkpoint. Neither changes
    the weights that come out.

    Raises
    ------
    StoreUnavailable
        The broker fell silent.
    """
    events = source.events
    if not isinstance(events, ExportReader):
        events = RangeReader(events, plan.of(EVENTS))
    catalogue = None if source.catalogue is None else RangeReader(source.catalogue, plan.of(CONTENTS))
    sink, registry = Forgotten(), CollectorRegistry()
    ports = Ports(Known(plan.source), sink, CatalogueFirst(events, catalogue), MemorySnapshotStore())
    learner = Learner(settings, ports, registry, until=plan.until)
    try:
        await learner.start()
        with _stopping(learner.stop) as stopped:
            showing = asyncio.create_task(_show(plan, registry, bar))
            try:
                await learner.run()
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
    except Stalled as error:
        raise StoreUnavailable(f"the broker fell silent: {error}. The same command goes on later") from error
    return None if stopped.is_set() else sink.records


def taken(folder: Path, settings: Settings, unusable: int) -> Rebuilt:
    """Return what the last checkpoint of a folder holds; raises ``RefusedStart`` when nothing was learned."""
    manifest = checkpoint_files.newest_valid(folder)
    if manifest is None or manifest.step == 0:
        raise RefusedStart(
            "the range holds too few impressions to learn from: not one update was due. Widen --from and --to, or "
            f"lower MOARD_LEARNER_LEARNING_STARTS (now {settings.learner_learning_starts}) or "
            f"MOARD_LEARNER_BATCH_SIZE (now {settings.learner_batch_size})"
        )
    state = checkpoint_files.read(folder, manifest)
    agent = Agent.restore(settings.agent_settings(), *part_of(state, "agent"), rows_before(folder, manifest))
    return Rebuilt(manifest, agent.snapshot(), agent.rows, unusable)


class Known:
    """The topics as they were found: nothing of them is changed."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Do nothing."""

    async def partitions(self, topic: str) -> int:
        """Nobody asks."""
        raise StoreUnavailable(f"the partitions of {topic} are in the settings")

    async def cluster_id(self) -> str:
        """Return what the log is called."""
        return self._cluster_id

    async def close(self) -> None:
        """Do nothing."""


class Forgotten:
    """Dead letters of a log whose dead letters were written when it was learned first: only counted."""

    def __init__(self) -> None:
        self.records = 0
        self.pending = 0

    async def start(self) -> None:
        """Do nothing."""

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:  # noqa: ARG002 - the port's
        """Count."""
        self.records += len(records)
        return [True] * len(records)

    async def place(self, records: Sequence[Outgoing], timeout_s: float) -> list[Place | None]:  # noqa: ARG002
        """Count; there is no place."""
        self.records += len(records)
        return [None] * len(records)

    async def stop(self) -> None:
        """Do nothing."""


async def _show(plan: Plan, registry: CollectorRegistry, bar: Progress) -> None:
    task = bar.add_task("learning", total=_total(plan))
    while True:
        bar.update(task, completed=_read(plan, registry))
        await asyncio.sleep(_LOOK_S)


def _total(plan: Plan) -> int:
    return sum(span.end - span.start for span in plan.spans.values())


def _read(plan: Plan, registry: CollectorRegistry) -> int:
    spans = plan.of(EVENTS) | plan.of(CONTENTS)
    return sum(
        int(registry.get_sample_value("moard_learner_position", tp._asdict() | {"partition": str(tp.partition)}) or 0)
        - span.start
        for tp, span in spans.items()
    )


@contextlib.contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[asyncio.Event]:
    """Let SIGINT and SIGTERM call something while the block runs, and tell whether they did."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def asked() -> None:
        stopped.set()
        stop()

    for number in signals:
        loop.add_signal_handler(number, asked)
    try:
        yield stopped
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
