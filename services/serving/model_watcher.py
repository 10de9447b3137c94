"""Follows the snapshot pointer, or holds what is pinned: verified, and swapped in as one reference."""

import asyncio
import hashlib
import time
from dataclasses import dataclass

import structlog

from libs.adapters.metrics import ServingMetrics
from libs.adapters.model_ports import UNPINNED, ModelStore, Pin
from libs.adapters.ports import SnapshotMeta, SnapshotStore
from libs.errors import NoSnapshot, SnapshotRejected, StoreUnavailable
from libs.rl.action_space import ActionSpace
from libs.rl.slates import Consumption, Rule
from libs.rl.snapshot import MAX_BYTES
from services.serving.last_good import LastGood
from services.serving.ranking import Learned
from services.serving.schemas import LATEST
from services.serving.snapshot_checks import SnapshotChecks

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

    While a pin stands nothing else is taken. ``obey`` says what is pinned; nothing is followed before it was called.
    """

    def __init__(
        self,
        store: SnapshotStore,
        models: ModelStore,
        space: ActionSpace,
        metrics: ServingMetrics,
        last_good: LastGood,
        *,
        rule: Rule,
        poll_s: float,
    ) -> None:
        self.served: Served | None = None
        self.pin = UNPINNED
        self.checks = SnapshotChecks(space)
        self.restored = asyncio.Event()
        self.tried = asyncio.Event()
        self.store_away = False
        self._store = store
        self._models = models
        self._metrics = metrics
        self._last_good = last_good
        self._rule: Rule = rule
        self._poll_s = poll_s
        self._looked_at = 0
        self._newest: SnapshotMeta | None = None  # of what was followed; what a pin holds is none of it
        self._held = False  # by a pin, since a snapshot was followed last
        self._rejected: tuple[int, str] | None = None
        self._rejected_pin = ""
        self._on_disk = ""
        self._told = asyncio.Event()
        self._swapping = asyncio.Lock()
        self._started_ms = _now_ms()
        metrics.snapshot_age.set_function(self._age_s)

    def name_of(self, version: int) -> str:
        """Return what the model of this version is called: the name it is pinned by, or ``latest``."""
        return LATEST if self.pin.name is None or version != self.pin.version else self.pin.name

    async def run(self) -> None:
        """Follow the pointer until cancelled, beginning with the snapshot on disk."""
        await self._restore()
        self.restored.set()
        await self._told.wait()
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

    async def obey(self, pin: Pin) -> bool:
        """Rank with what is pinned, or with the newest again; return whether that is done.

        Otherwise what ranked goes on ranking, nothing newer is taken while the pin stands, and another call tries
        again. A pinned snapshot that fails a check is counted and logged, and not tried again.
        """
        async with self._swapping:
            before, self.pin = self.pin, pin
            self._metrics.pinned_version.set(pin.version)
            try:
                done = await (self._release() if pin.name is None else self._hold(pin, pin.name))
            except (StoreUnavailable, NoSnapshot) as error:
                log.warning("pin.not_obeyed_yet", name=pin.name, version=pin.version, error=str(error))
                done = False
            if pin != before:
                await asyncio.to_thread(self._last_good.save_pin, pin)  # after the blob it is about
            self._told.set()
            return done

    async def _restore(self) -> None:
        pin = await asyncio.to_thread(self._last_good.load_pin)
        saved = await asyncio.to_thread(self._last_good.load)
        async with self._swapping:
            if not self._told.is_set():
                self.pin, self._held = pin, pin.name is not None
            allowed = saved is not None and (self.pin.name is None or _is_pinned(saved[0], self.pin))
            if saved is not None and allowed and self.served is None and await self._offer(*saved):
                self._newest, self._on_disk = None if self._held else saved[0], saved[0].sha256

    async def _look(self) -> None:
        first = not self.tried.is_set()  # readiness waits for it: no blocking read
        meta = await (self._store.current() if first else self._store.wait(self._looked_at, self._poll_s))
        if meta is None:
            return
        async with self._swapping:
            self._looked_at = meta.version
            if self.pin.name is None:
                await self._take(meta)

    async def _take(self, meta: SnapshotMeta) -> None:
        if not self._wanted(meta) or self._rejected == (meta.version, meta.sha256):
            return
        if meta.size_bytes > MAX_BYTES:  # not even fetched
            self._reject(meta, SnapshotRejected("size", f"{meta.size_bytes} bytes, at most {MAX_BYTES}"))
            self._rejected = (meta.version, meta.sha256)
            return
        try:
            _, blob = await self._store.load(meta.version)
        except NoSnapshot:
            return  # retention was faster; the pointer names a newer one by now
        if not await self._offer(meta, blob):
            self._rejected = (meta.version, meta.sha256)
            return
        self._newest = meta
        self._observe_freshness(meta)
        if self._held or self._last_good.due():
            await self._save(meta, blob)
        self._held = False

    def _wanted(self, meta: SnapshotMeta) -> bool:
        newest = self._newest
        if newest is None or meta.version > newest.version or meta.epoch > newest.epoch:
            return True
        return self._held and meta.version == newest.version  # what ranked before the pin ranks again

    async def _release(self) -> bool:
        if self._held and (meta := await self._store.current()) is not None:
            self._looked_at = meta.version
            await self._take(meta)
        return True

    async def _hold(self, pin: Pin, name: str) -> bool:
        self._held = True
        serves = self.served is not None and _is_pinned(self.served.meta, pin)
        if (serves and self._on_disk == pin.sha256) or self._rejected_pin == pin.sha256:
            return True
        meta, blob = await self._pinned(pin, name)
        if serves or await self._offer(meta, blob):
            await self._save(meta, blob)
        else:
            self._rejected_pin = pin.sha256
        return True

    async def _save(self, meta: SnapshotMeta, blob: bytes) -> None:
        await asyncio.to_thread(self._last_good.save, meta, blob)
        self._on_disk = meta.sha256

    async def _pinned(self, pin: Pin, name: str) -> tuple[SnapshotMeta, bytes]:
        """Return what is pinned: from Redis where that has it unharmed, else as it was kept in SQL."""
        try:
            meta, blob = await self._store.load(pin.version)
            digest = await asyncio.to_thread(lambda: hashlib.sha256(blob).hexdigest())
            if digest == meta.sha256 == pin.sha256:
                return meta, blob
        except (StoreUnavailable, NoSnapshot, SnapshotRejected) as error:
            log.info("pin.not_in_snapshot_store", version=pin.version, error=str(error))
        return await self._models.load(name)

    async def _offer(self, meta: SnapshotMeta, blob: bytes) -> bool:
        """Verify a snapshot and swap it in; return whether it serves now."""
        try:
            scorer = await self.checks.scorer(meta, blob)
        except SnapshotRejected as error:
            self._reject(meta, error)
            return False
        # Decoding checked it.
        consumption: Consumption = "single" if scorer.snapshot.consumption == "single" else "multi"
        self.served = Served(Learned(scorer, meta.version, self._rule, consumption), meta)
        self._metrics.snapshot_version.set(meta.version)
        self._metrics.snapshot_swaps.inc()
        log.info("snapshot.swapped", version=meta.version, epoch=meta.epoch, step=meta.step, pinned=self.pin.name)
        return True

    def _reject(self, meta: SnapshotMeta, error: SnapshotRejected) -> None:
        self._metrics.snapshot_rejected.labels(error.reason).inc()
        log.error(
            "snapshot.rejected", version=meta.version, reason=error.reason, error=str(error), pinned=self.pin.name
        )

    def _observe_freshness(self, meta: SnapshotMeta) -> None:
        # What was published before this worker began, or while a pin held it, says nothing about how fast it takes
        # snapshots in.
        if meta.created_ms < self._started_ms or self._held:
            return
        now_ms = _now_ms()
        for _, append_ms in meta.trained:
            self._metrics.freshness.observe(max(0, now_ms - append_ms) / 1_000)

    def _age_s(self) -> float:
        return float("nan") if self.served is None else (_now_ms() - self.served.meta.created_ms) / 1_000


def _is_pinned(meta: SnapshotMeta, pin: Pin) -> bool:
    return (meta.version, meta.sha256) == (pin.version, pin.sha256)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
