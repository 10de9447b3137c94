"""The parts of the learner, put together from ports: real ones in ``process.py``, twins in tests and quickstart."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry

from libs.adapters.event_log import topic_specs
from libs.adapters.ports import PartitionReader, Producer, SnapshotMeta, SnapshotStore, TopicAdmin, TopicPartition
from libs.adapters.settings import in_force
from libs.adapters.status import MemoryStatusBoard, StatusBoard, StatusPublisher, instance_of
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.topics import CONTENTS, EVENTS
from libs.rl import agent_state
from libs.rl.agent import Agent
from services.learner import checkpoint_files, row_files
from services.learner.attribution import Attribution
from services.learner.checkpoint import Checkpoints, Retention, part_of, rows_before
from services.learner.checkpoint_files import Manifest
from services.learner.epochs import claim_epoch
from services.learner.evaluation import Evaluation
from services.learner.intake import EventIntake
from services.learner.join_metrics import JoinMetrics
from services.learner.log_watch import LogWatch
from services.learner.loop import finish, learn
from services.learner.publisher import Lineage, SnapshotPublisher, gate_of
from services.learner.records import ArrivingRecords, MergedRecords, Records
from services.learner.resume import config_of, find_checkpoint, start_offsets, start_over
from services.learner.schedules import LiveSchedule, LogSchedule, Schedule
from services.learner.settings import Settings
from services.learner.status import LearnerStatus
from services.learner.trainer import Trainer
from services.learner.training_metrics import TrainingMetrics

log = structlog.get_logger(__name__)
AnswerT = TypeVar("AnswerT")

_PATIENCE_S: Final = 30.0  # a stack that starts together with the learner needs some of it
_HEARTBEAT_S: Final = 30.0  # a turn of the loop takes well under a second; a checkpoint's barrier a few


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world."""

    topics: TopicAdmin
    dead_letters: Producer
    reader: PartitionReader
    snapshots: SnapshotStore
    board: StatusBoard = field(default_factory=MemoryStatusBoard)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the loop needs, restored and connected."""

    events: EventIntake
    attribution: Attribution
    trainer: Trainer
    snapshots: SnapshotPublisher
    checkpoints: Checkpoints
    watch: LogWatch
    join_metrics: JoinMetrics


@dataclass(frozen=True, slots=True)
class Origin:
    """What a start found: who it is, what it goes on from."""

    epoch: int
    cluster_id: str
    manifest: Manifest | None
    current: SnapshotMeta | None


class Learner:
    """One learner: ``start`` finds the way back to where the last one was, ``run`` learns until ``stop``.

    Parameters
    ----------
    until
        Offsets at which the log ends for good: ``run`` returns when all before them is learned. None: it never does.
        Only with ``schedule="log"``.
    """

    def __init__(
        self,
        settings: Settings,
        ports: Ports,
        registry: CollectorRegistry,
        clock_ms: Callable[[], int] | None = None,
        until: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self._settings = settings
        self._until = until
        self._ports = ports
        self._clock_ms = clock_ms or _epoch_ms
        self._root = Path(settings.learner_checkpoint_path)
        self._partitions = [TopicPartition(EVENTS, number) for number in range(settings.events_partitions)]
        self._partitions += [TopicPartition(CONTENTS, number) for number in range(settings.contents_partitions)]
        self.metrics = LearnerMetrics(registry, [(tp.topic, tp.partition) for tp in self._partitions])
        self._parts: Parts | None = None
        self._turned_s = time.monotonic()
        self._publishing: asyncio.Task[None] | None = None
        self.metrics.turn_age.set_function(lambda: time.monotonic() - self._turned_s)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Learn in the background; at the end everything read is saved and published."""
        await self.start()
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            self.stop()
            await task

    async def start(self) -> None:
        """Claim an epoch, restore the newest checkpoint and seek to its offsets.

        Raises
        ------
        RefusedStart
            Something does not fit, or a store does not answer; the message names the setting and the remedy.
        """
        self._publishing = asyncio.create_task(self._status().run())
        try:
            origin = await self._find_origin()
            offsets = await self._find_offsets(origin.manifest)
            self._parts = await self._restore(origin)
            await self._parts.events.start(offsets)
            await _patiently(self._parts.events.ask_committed, "no offsets of this learner's group in Kafka")
            await self._parts.watch.ask()  # so that lag is shown as it is from the first scrape on
            self._parts.watch.show()
        except BaseException:
            await self._close()
            raise
        log.info(
            "learner.started",
            epoch=origin.epoch,
            checkpoint=origin.manifest.name if origin.manifest else None,
            offsets={f"{tp.topic}:{tp.partition}": offset for tp, offset in offsets.items()},
        )

    async def run(self) -> None:
        """Learn until ``stop`` or the end of the log, then save and publish what was learned; only after ``start``.

        Raises
        ------
        Fenced, Stalled, RefusedStart
            Why it cannot go on; nothing is saved then.
        """
        assert self._parts is not None, "start comes first"  # noqa: S101 - a mistake of the caller's
        parts = self._parts
        loop_parts = (parts.events, parts.attribution, parts.trainer, parts.snapshots, parts.checkpoints)
        settings = self._settings
        final_ms = settings.join_rules().windows.final_ms
        evaluation = Evaluation(settings.goal(), self.metrics.evaluation, settings.learner_evaluation_window, final_ms)
        parts.trainer.start()
        try:
            async with _together(parts.watch.run(), parts.snapshots.watch_pointer()):
                await learn(*loop_parts, evaluation, self._show, settings.learner_max_poll_records)
            if not await finish(*loop_parts):
                raise OSError(f"the last checkpoint could not be written to {self._root}")
        finally:
            await self._close()
        log.info("learner.stopped")

    def stop(self) -> None:
        """Let ``run`` end after the batch at hand."""
        if self._parts is not None:
            self._parts.events.stop()

    def healthy(self) -> bool:
        """Tell whether the loop turns and the training thread lives; asked from any thread."""
        turned_lately = time.monotonic() - self._turned_s < _HEARTBEAT_S
        return self._parts is not None and turned_lately and self._parts.trainer.alive

    def _show(self) -> None:
        self._turned_s = time.monotonic()
        if self._parts is not None:
            self._parts.join_metrics.show()
            self._parts.watch.show()

    async def _find_origin(self) -> Origin:
        ports, settings = self._ports, self._settings
        broker = f"no Kafka broker at KAFKA_BOOTSTRAP_SERVERS={settings.kafka_bootstrap_servers}"
        await _patiently(lambda: ports.topics.ensure(topic_specs(settings)), broker)
        cluster_id = await _patiently(ports.topics.cluster_id, broker)
        await _patiently(ports.dead_letters.start, broker)
        redis = f"no Redis at REDIS_URL={settings.redis_url}"
        epoch = await _patiently(lambda: claim_epoch(self._root, ports.snapshots), redis)
        current = await _patiently(ports.snapshots.current, redis)
        manifest = await asyncio.to_thread(find_checkpoint, self._root, settings, cluster_id)
        return Origin(epoch, cluster_id, manifest, current)

    async def _find_offsets(self, manifest: Manifest | None) -> dict[TopicPartition, int]:
        reader = self._ports.reader
        broker = f"no Kafka broker at KAFKA_BOOTSTRAP_SERVERS={self._settings.kafka_bootstrap_servers}"
        await _patiently(lambda: reader.start(dict.fromkeys(self._partitions, -1)), broker)
        beginnings, ends = await reader.beginning_offsets(), await reader.end_offsets()
        await reader.stop()
        offsets, gap = start_offsets(manifest, beginnings, ends, self._settings.learner_allow_gap)
        if gap:
            self.metrics.gap_records.inc(gap)
            log.error("learner.gap", records=gap)
        return offsets

    async def _restore(self, origin: Origin) -> Parts:
        settings, metrics, clock_ms = self._settings, self.metrics, self._clock_ms
        agent, attribution = await asyncio.to_thread(self._restore_state, origin.manifest)
        mark = agent_state.mark(agent)
        training = TrainingMetrics(metrics, clock_ms)
        training.start_from(agent.inserted, agent.samples)
        records, schedule = self._schedule()
        trainer = Trainer(agent, training, schedule, settings.learner_queue_changes)
        events = EventIntake(
            self._ports.reader,
            records,
            self._ports.dead_letters,
            metrics,
            clock_ms,
            settings.vector_size,
            settings.learner_idle_poll_ms,
            settings.events_partitions,
        )
        versions = [origin.current.version if origin.current else 0]
        versions += [origin.manifest.last_version] if origin.manifest else []
        lineage = Lineage(origin.epoch, origin.cluster_id, max(versions), gate_of(origin.current, origin.cluster_id))
        snapshots = SnapshotPublisher(
            self._ports.snapshots, trainer, lineage, settings.learner_snapshot_interval_s, metrics, clock_ms
        )
        checkpoints = Checkpoints(
            self._root,
            self._template(origin),
            Retention(settings.learner_checkpoints_kept, int(settings.learner_ledger_hours * 3_600_000)),
            settings.learner_checkpoint_interval_s,
            metrics,
            clock_ms,
            last_version=lambda: snapshots.last_version,
            committed=events.commit,
            mark=mark,
            erasures=attribution.tally["erasures"],
        )
        watch = LogWatch(self._ports.reader, events, metrics, settings.learner_watchdog_s, clock_ms)
        return Parts(events, attribution, trainer, snapshots, checkpoints, watch, JoinMetrics(attribution, metrics))

    def _schedule(self) -> tuple[Records, Schedule]:
        """Return in which order records are learned from, and when: both by the log, or both as it comes."""
        settings, reader = self._settings, self._ports.reader
        if settings.learner_schedule == "log":
            return MergedRecords(reader, settings.learner_round_records, self._until), LogSchedule(
                settings.learner_batch_size
            )
        return ArrivingRecords(reader), LiveSchedule(settings.learner_backlog_replay_ratio)

    def _restore_state(self, manifest: Manifest | None) -> tuple[Agent, Attribution]:
        settings = self._settings
        attribution = Attribution(settings.join_rules())
        if manifest is None:
            return Agent(settings.agent_settings(), settings.vector_size, settings.learner_seed), attribution
        began = time.perf_counter()
        state = checkpoint_files.read(self._root, manifest)
        try:
            earlier = rows_before(self._root, manifest)
            agent = Agent.restore(settings.agent_settings(), *part_of(state, "agent"), earlier)
        except ValueError as error:  # an earlier build's format
            raise RefusedStart(f"{manifest.name} in {self._root}: {error}. {start_over(manifest)}") from error
        attribution.restore(*part_of(state, "join"))
        if manifest.reward_version != agent.settings.reward.version:
            log.info("reward.changed", rows=agent.rows, was=manifest.reward_version, now=agent.settings.reward.version)
        seconds = time.perf_counter() - began
        log.info("checkpoint.restored", name=manifest.name, rows=agent.rows, duration_ms=round(1000 * seconds))
        return agent, attribution

    def _template(self, origin: Origin) -> Manifest:
        before = origin.manifest
        return Manifest(
            epoch=origin.epoch,
            number=before.number if before else 0,
            created_ms=self._clock_ms(),
            cluster_id=origin.cluster_id,
            config=config_of(self._settings),
            reward_version=self._settings.agent_settings().reward.version,
            offsets={},
            last_version=0,
            step=0,
            files={},
            ledger=before.ledger if before else (),
            rows=before.rows if before else row_files.EMPTY,
            contents=before.contents if before else row_files.EMPTY,
        )

    def _status(self) -> StatusPublisher:
        settings = self._settings
        status = LearnerStatus(self.metrics, lambda: None if self._parts is None else self.healthy())
        instance = instance_of(settings.learner_metrics_port)
        failures = self.metrics.status_failures
        return StatusPublisher(self._ports.board, "learner", instance, status.describe, in_force(settings), failures)

    async def _close(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])
        if self._parts is not None:
            await self._parts.snapshots.abandon()
            await self._parts.checkpoints.abandon()
            await self._parts.trainer.stop()
        await self._ports.reader.stop()
        await self._ports.dead_letters.stop()
        await self._ports.topics.close()
        await self._ports.snapshots.close()
        await self._ports.board.close()


@contextlib.asynccontextmanager
async def _together(*background: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines beside the block; the first failure of any ends all and is raised as itself, not as a group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in background]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _patiently(ask: Callable[[], Coroutine[Any, Any, AnswerT]], otherwise: str) -> AnswerT:
    """Ask until there is an answer; raises ``RefusedStart`` when there is none within half a minute."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except StoreUnavailable as error:
            if time.monotonic() > deadline:
                raise RefusedStart(f"{otherwise}: {error}") from error
            log.warning("start.waiting", reason=str(error))
        await asyncio.sleep(1)


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
