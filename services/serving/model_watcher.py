"""Follows the snapshot pointer, verifies what it names, and swaps it in: one reference, off the event loop."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import SnapshotMeta, SnapshotStore
from libs.errors import NoSnapshot, SnapshotRejected, StoreUnavailable
from libs.rl.action_space import ActionSpace
from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption, Rule
from libs.rl.snapshot import FORMAT, MAX_BYTES, Snapshot, arch, decode
from services.serving.last_good import LastGood
from services.serving.ranking import Learned

log = structlog.get_logger(__name__)

_BACKOFF_S = (0.2, 0.5, 1.0, 2.0)  # a store that comes back is noticed within two seconds


@dataclass(frozen=True, slots=True)
class Served:
    """The snapshot in use and where it came from."""

    model: Learned
    meta: SnapshotMeta


class ModelWatcher:
    """Holds the model that ranks. ``served`` is None until a first snapshot passed every check.

    Notes
    -----
    A snapshot that fails a check is counted by reason and its version remembered; the one before keeps ranking, also
    when the store is away, empty, or points to an older version. Only a higher version is taken, or one of a newer
    epoch: a learner that had to start over may have lost the clock, never its epoch.
    """

    def __init__(
        self,
        store: SnapshotStore,
        space: ActionSpace,
        metrics: ServingMetrics,
        last_good: LastGood,
        *,
        rule: Rule,
        poll_s: float,
    ) -> None:
        self.served: Served | None = None
        self.tried = asyncio.Event()
        self.store_away = False
        self._store = store
        self._space = space
        self._metrics = metrics
        self._last_good = last_good
        self._rule: Rule = rule
        self._poll_s = poll_s
        self._looked_at = 0
        self._rejected: tuple[int, str] | None = None
        self._started_ms = _now_ms()
        metrics.snapshot_age.set_function(self._age_s)

    async def run(self) -> None:
        """Follow the pointer until cancelled, beginning with the snapshot on disk."""
        saved = await asyncio.to_thread(self._last_good.load)
        if saved is not None:
            await self._offer(*saved)
        failures = 0
        while True:
            try:
                await self._look()
                failures, self.store_away = 0, False
            except (StoreUnavailable, SnapshotRejected) as error:  # rejected: the pointer itself cannot be read
                log.warning("snapshot.pointer_unreadable", error=str(error))
                if isinstance(error, SnapshotRejected) and not failures:
                    self._metrics.snapshot_rejected.labels(error.reason).inc()
                self.store_away = True
                self.tried.set()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
            self.tried.set()

    async def _look(self) -> None:
        first = not self.tried.is_set()  # readiness waits for it: no blocking read
        meta = await (self._store.current() if first else self._store.wait(self._looked_at, self._poll_s))
        if meta is None:
            return
        self._looked_at = meta.version
        if not self._newer(meta) or self._rejected == (meta.version, meta.sha256):
            return
        if meta.size_bytes > MAX_BYTES:  # not even fetched
            self._reject(meta, SnapshotRejected("size", f"{meta.size_bytes} bytes, at most {MAX_BYTES}"))
            return
        try:
            _, blob = await self._store.load(meta.version)
        except NoSnapshot:
            return  # retention was faster; the pointer names a newer one by now
        if await self._offer(meta, blob) and self._last_good.due():
            await asyncio.to_thread(self._last_good.save, meta, blob)

    def _newer(self, meta: SnapshotMeta) -> bool:
        return self.served is None or meta.version > self.served.model.version or meta.epoch > self.served.meta.epoch

    async def _offer(self, meta: SnapshotMeta, blob: bytes) -> bool:
        """Verify a snapshot and swap it in; return whether it serves now."""
        try:
            snapshot, strangers = await asyncio.to_thread(self._decode, meta, blob)
            self._space.ensure(strangers)  # on the loop: the space has one writer
            scorer = await asyncio.to_thread(self._build, snapshot)
        except SnapshotRejected as error:
            self._reject(meta, error)
            return False
        scorer.refresh(self._space)
        consumption: Consumption = "single" if snapshot.consumption == "single" else "multi"  # decoding checked it
        self.served = Served(Learned(scorer, meta.version, self._rule, consumption), meta)
        self._report(meta)
        return True

    def _decode(self, meta: SnapshotMeta, blob: bytes) -> tuple[Snapshot, list[int]]:
        if meta.size_bytes != len(blob):
            raise SnapshotRejected("size", f"{len(blob)} bytes, the pointer says {meta.size_bytes}")
        if str(meta.format) != FORMAT:
            raise SnapshotRejected("format", f"format {meta.format}, this reader knows {FORMAT}")
        snapshot = decode(blob, meta.sha256, self._space.vector_size)
        if arch(snapshot) != meta.arch:
            raise SnapshotRejected("arch", "another architecture than the pointer says")
        return snapshot, [content_id for content_id in snapshot.content_ids.tolist() if content_id not in self._space]

    def _build(self, snapshot: Snapshot) -> Scorer:
        scorer = Scorer(snapshot, self._space)
        scorer.canary()
        return scorer

    def _reject(self, meta: SnapshotMeta, error: SnapshotRejected) -> None:
        self._rejected = (meta.version, meta.sha256)
        self._metrics.snapshot_rejected.labels(error.reason).inc()
        log.error("snapshot.rejected", version=meta.version, reason=error.reason, error=str(error))

    def _report(self, meta: SnapshotMeta) -> None:
        self._metrics.snapshot_version.set(meta.version)
        self._metrics.snapshot_swaps.inc()
        now_ms = _now_ms()
        # What was published before this worker began says nothing about how fast it takes snapshots in.
        trained = meta.trained if meta.created_ms >= self._started_ms else ()
        for _, append_ms in trained:
            self._metrics.freshness.observe(max(0, now_ms - append_ms) / 1_000)
        log.info("snapshot.swapped", version=meta.version, epoch=meta.epoch, step=meta.step, trained=len(trained))

    def _age_s(self) -> float:
        return float("nan") if self.served is None else (_now_ms() - self.served.meta.created_ms) / 1_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
