"""From weights to snapshots: when to publish, under which version, and what to do while the store is away."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from libs.adapters.ports import SnapshotMeta, SnapshotStore, TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import Fenced, SnapshotRejected, StoreUnavailable
from libs.events.topics import EVENTS
from libs.rl import snapshot as encoding
from services.learner.trainer import Taken, Trainer

log = structlog.get_logger(__name__)

_TRAINED_SAMPLE: Final = 64  # enough to measure freshness by; the pointer's metadata stays small
_TRAINED_KEPT: Final = 10_000
_POINTER_POLL_S: Final = 1.0  # a store that came back empty is noticed within this
_CONTAINED_S: Final = 3.0  # how late a snapshot says that it contains events which changed no weight
_LONGEST_PAUSE_S: Final = 4.0  # while the store is away; with the poll it is filled again within 5 s


@dataclass(frozen=True, slots=True)
class Lineage:
    """What this learner publishes as.

    ``gate`` holds the offsets of the snapshot that was current when it started: below them it has learned less.
    """

    epoch: int
    cluster_id: str
    last_version: int = 0
    gate: Mapping[TopicPartition, int] = field(default_factory=dict)


class SnapshotPublisher:
    """Publishes what the trainer takes, in the background, one snapshot at a time.

    A store that does not answer costs nothing but snapshots: training goes on, and the newest weights are published
    when it is back. One that answers that a newer learner exists ends this one.
    """

    def __init__(
        self,
        store: SnapshotStore,
        trainer: Trainer,
        lineage: Lineage,
        interval_s: float,
        metrics: LearnerMetrics,
        clock_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._trainer = trainer
        self._lineage = lineage
        self._interval_ms = int(1000 * interval_s)
        self._metrics = metrics
        self._clock_ms = clock_ms
        self.last_version = lineage.last_version
        metrics.snapshot_version.set(self.last_version)
        self._offsets: dict[TopicPartition, int] = {}  # of events, contained in what was published last
        self._published_ms = 0
        self._step = -1  # of the weights published last; those of a checkpoint count as not published
        self._not_before_ms = 0
        self._failures = 0
        self._pointer_gone = False
        self._behind = bool(lineage.gate)
        self._unpublished: list[tuple[str, int]] = []
        self._publishing: asyncio.Task[None] | None = None

    def due(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Tell whether there is something to publish and nothing that forbids it; raises what publishing raised."""
        if self._publishing is not None:
            if not self._publishing.done():
                return False
            self._collect()
        if self._clock_ms() < self._not_before_ms or not self._trainer.sound or self._is_behind(positions):
            return False
        learned = self._trainer.step > 0 and self._trainer.step != self._step
        if learned or self._trainer.fresh:
            return True
        return self._trainer.step > 0 and (self._pointer_gone or self._contains_more(positions))

    def publish(self, taken: Taken, positions: Mapping[TopicPartition, int]) -> None:
        """Begin to publish; ``positions`` are the offsets that these weights contain."""
        self._not_before_ms = self._clock_ms() + self._interval_ms
        self._unpublished = (self._unpublished + taken.trained)[-_TRAINED_KEPT:]
        self._publishing = asyncio.create_task(self._publish(taken, dict(positions)))

    async def finish(self) -> None:
        """Wait for what is being published."""
        if self._publishing is not None:
            await asyncio.wait([self._publishing])
            self._collect()

    async def abandon(self) -> None:
        """Let go of what is being published: the process ends for another reason, and that one is to be reported."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)

    async def watch_pointer(self) -> None:
        """Look every second whether the store lost the pointer or another learner took it over, until cancelled."""
        while True:
            try:
                current = await self._store.current()
            except StoreUnavailable:
                current = None
            except SnapshotRejected as error:  # nobody can read it: publishing again replaces it
                log.warning("snapshot.pointer_unreadable", error=str(error))
                current, self._pointer_gone = None, True
            else:
                if current is None and not self._pointer_gone:
                    log.info("snapshot.pointer_gone")
                self._pointer_gone = current is None
            if current is not None and current.epoch > self._lineage.epoch:
                raise Fenced(f"epoch {current.epoch} publishes now, this learner has {self._lineage.epoch}")
            await asyncio.sleep(_POINTER_POLL_S)

    async def _publish(self, taken: Taken, positions: Mapping[TopicPartition, int]) -> None:
        began_ms = self._clock_ms()
        blob, sha256 = await asyncio.to_thread(_encode, taken)
        version = max(self._clock_ms(), self.last_version + 1)
        meta = SnapshotMeta(
            version=version,
            epoch=self._lineage.epoch,
            step=taken.step,
            sha256=sha256,
            size_bytes=len(blob),
            created_ms=self._clock_ms(),
            format=int(encoding.FORMAT),
            arch=encoding.arch(taken.snapshot),
            offsets={f"{tp.topic}:{tp.partition}": offset for tp, offset in positions.items()},
            trained=tuple(_sample(self._unpublished)),
            extra={"cluster_id": self._lineage.cluster_id, **_course(taken)},
        )
        await self._store.publish(meta, blob)
        self._offsets, self._published_ms = _events(positions), self._clock_ms()
        self.last_version, self._step, self._unpublished = version, taken.step, []
        self._pointer_gone, self._failures = False, 0
        self._metrics.snapshot_version.set(version)
        self._metrics.snapshot_seconds.observe((self._clock_ms() - began_ms) / 1000)
        log.info("snapshot.published", version=version, step=taken.step, bytes=len(blob))

    def _collect(self) -> None:
        """Take note of how publishing ended."""
        task, self._publishing = self._publishing, None
        error = task.exception() if task is not None else None
        if isinstance(error, StoreUnavailable):
            self._failures += 1
            pause_s = min(_LONGEST_PAUSE_S, 0.25 * 2**self._failures)
            self._not_before_ms = self._clock_ms() + int(1000 * pause_s)
            self._metrics.snapshot_failures.inc()
            log.warning("snapshot.delayed", error=str(error), failures=self._failures)
            return
        if isinstance(error, Fenced):
            self._metrics.snapshots_refused.inc()
        if error is not None:
            raise error

    def _contains_more(self, positions: Mapping[TopicPartition, int]) -> bool:
        """Tell whether events were learned from without changing a weight, some time ago: who waits for them waits."""
        overdue = self._clock_ms() >= self._published_ms + 1000 * _CONTAINED_S
        return overdue and self._step >= 0 and _events(positions) != self._offsets

    def _is_behind(self, positions: Mapping[TopicPartition, int]) -> bool:
        if self._behind:
            self._behind = any(positions.get(tp, 0) < offset for tp, offset in self._lineage.gate.items())
            if not self._behind:
                log.info("snapshot.caught_up", last_version=self.last_version)
        return self._behind


def gate_of(current: SnapshotMeta | None, cluster_id: str) -> dict[TopicPartition, int]:
    """Return the offsets that have to be learned before a snapshot may follow the current one.

    Offsets of another cluster say nothing about this one's.
    """
    if current is None or current.extra.get("cluster_id", cluster_id) != cluster_id:
        return {}
    return {parse_partition(name): offset for name, offset in current.offsets.items()}


def parse_partition(text: str) -> TopicPartition:
    """Read ``topic:partition``.

    >>> parse_partition("moard.events:3")
    TopicPartition(topic='moard.events', partition=3)
    """
    topic, _, partition = text.rpartition(":")
    return TopicPartition(topic, int(partition))


def _events(positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    return {tp: offset for tp, offset in positions.items() if tp.topic == EVENTS}


def _course(taken: Taken) -> dict[str, str]:
    """Return how learning went since the snapshot before; nothing when there was no update."""
    if taken.loss is None or taken.q_mean is None:
        return {}
    return {"loss": repr(taken.loss), "q_mean": repr(taken.q_mean)}


def _encode(taken: Taken) -> tuple[bytes, str]:
    blob = encoding.encode(taken.snapshot)
    return blob, hashlib.sha256(blob).hexdigest()


def _sample(trained: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return at most 64 entries, evenly spread, the newest among them."""
    step = -(-len(trained) // _TRAINED_SAMPLE) or 1
    return list(trained[::-step])[::-1]
