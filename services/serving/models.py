"""Administration of models: snapshots kept by name, and which one ranks."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from libs.adapters.model_ports import KeptSnapshot, ModelAction, ModelChange, ModelStore, Pin, ServedSnapshots
from libs.adapters.ports import SnapshotMeta
from libs.errors import ModelConflict, NoSnapshot, SnapshotRejected
from services.serving.model_watcher import ModelWatcher
from services.serving.pins import Pins
from services.serving.schemas import LATEST

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What a model may be called: pages put names into addresses as they are. A name is only ever looked up."""

_IMPLICIT: Final = "snapshot-"
"""Begins the name of a snapshot that was pinned by its version alone."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One snapshot of the lineage and what is known of it.

    ``names`` are those it is kept under. It is ``stored`` while the snapshot store still has it, ``current`` when
    that points to it, and ``served`` when this worker ranks with it.
    """

    meta: SnapshotMeta
    names: tuple[str, ...]
    stored: bool
    current: bool
    pinned: bool
    served: bool


class Models:
    """Lists, keeps, pins and deletes. Every change is in the audit log with who asked for it.

    ``actor`` is the id of the key that asked, ``request_id`` the one of the request. Raises ``StoreUnavailable`` when
    a store that an answer needs is away; each call may then be repeated.
    """

    def __init__(self, snapshots: ServedSnapshots, store: ModelStore, watcher: ModelWatcher, pins: Pins) -> None:
        self._snapshots = snapshots
        self._store = store
        self._watcher = watcher
        self._pins = pins

    @property
    def current_name(self) -> str:
        """Name of the model that ranks in this worker."""
        return self._watcher.name_of(self.served_version)

    @property
    def served_version(self) -> int:
        """Version that ranks in this worker, 0 before the first."""
        return 0 if self._watcher.served is None else self._watcher.served.model.version

    @property
    def pin(self) -> Pin:
        """What this worker was told to rank with."""
        return self._watcher.pin

    async def names(self) -> list[str]:
        """Return what ``change`` takes: ``latest``, then the kept names, the ones kept last first."""
        return [LATEST, *(kept.name for kept in await self._store.kept())]

    async def keep(self, name: str, actor: str, request_id: str) -> int:
        """Keep the newest snapshot under a name and return its version; raises what ``keep_version`` raises."""
        current = await self._snapshots.current()
        if current is None:
            raise NoSnapshot("no snapshot has been published yet")
        await self.keep_version(current.version, name, actor, request_id)
        return current.version

    async def keep_version(self, version: int, name: str, actor: str, request_id: str) -> None:
        """Keep a stored snapshot under a name; doing so again changes nothing.

        Raises
        ------
        NoSnapshot
            When no such version is stored any more.
        ModelConflict
            When the name is taken or reserved, or the snapshot fails a check: it could never rank.
        ValueError
            When the name cannot be one (``NAME``).
        """
        if re.fullmatch(NAME, name) is None:
            raise ValueError(f"{name!r} cannot be the name of a model: {NAME}")
        if name == LATEST or (name.startswith(_IMPLICIT) and name != f"{_IMPLICIT}{version}"):
            raise ModelConflict(f"{name} is a name that moard gives: choose another one")
        meta, blob = await self._find(version)
        await self._check(meta, blob)
        await self._store.keep(name, meta, blob, _change("keep", name, actor, request_id))
        await self._pins.refresh()  # retention has to know

    async def pin_name(self, name: str, actor: str, request_id: str) -> Pin:
        """Let a kept snapshot rank, in every worker; raises ``NoSnapshot``, and ``ModelConflict`` if it cannot rank."""
        await self._check_kept(name)
        pin = await self._store.pin(name, _change("pin", name, actor, request_id))
        await self._pins.refresh()
        return pin

    async def pin_version(self, version: int, actor: str, request_id: str) -> Pin:
        """Let a snapshot rank by its version. Unless it has a name already, it is kept as ``snapshot-<version>``."""
        kept = [kept.name for kept in await self._store.kept() if kept.meta.version == version]
        name = kept[0] if kept else f"{_IMPLICIT}{version}"
        if not kept:
            await self.keep_version(version, name, actor, request_id)
        return await self.pin_name(name, actor, request_id)

    async def unpin(self, actor: str, request_id: str) -> bool:
        """Let the newest snapshot rank again, in every worker; False when nothing was pinned."""
        name = (await self._store.pinned()).name or LATEST
        done = await self._store.unpin(_change("unpin", name, actor, request_id))
        await self._pins.refresh()
        return done

    async def delete(self, name: str, actor: str, request_id: str) -> None:
        """Forget a kept snapshot; raises ``NoSnapshot``, and ``ModelConflict`` for the pinned one and ``latest``."""
        if name == LATEST:
            raise ModelConflict(f"{LATEST} is whatever snapshot is newest: it cannot be deleted")
        await self._store.delete(name, _change("delete", name, actor, request_id))
        await self._pins.refresh()

    async def lineage(self) -> list[Ancestor]:
        """Return every snapshot that could rank, stored or kept, newest version first."""
        kept = await self._store.kept()
        stored = {_identity(meta): meta for meta in await self._snapshots.metas()}
        current = await self._snapshots.current()
        metas = {_identity(item.meta): item.meta for item in kept} | stored
        return [
            Ancestor(
                meta,
                _names(kept, identity),
                stored=identity in stored,
                current=current is not None and identity == _identity(current),
                pinned=self.pin.name is not None and identity == (self.pin.version, self.pin.sha256),
                served=self._watcher.served is not None and identity == _identity(self._watcher.served.meta),
            )
            for identity, meta in sorted(metas.items(), reverse=True)
        ]

    async def changes(self, limit: int) -> list[ModelChange]:
        """Return the newest lines of the audit log, newest first."""
        return await self._store.changes(limit)

    async def _find(self, version: int) -> tuple[SnapshotMeta, bytes]:
        try:
            return await self._snapshots.load(version)
        except NoSnapshot:
            for kept in await self._store.kept():
                if kept.meta.version == version:
                    return await self._store.load(kept.name)
            raise

    async def _check_kept(self, name: str) -> None:
        for kept in await self._store.kept():
            if kept.name == name and not self._watcher.checks.passed(kept.meta):
                await self._check(*await self._store.load(name))

    async def _check(self, meta: SnapshotMeta, blob: bytes) -> None:
        try:
            await self._watcher.checks.scorer(meta, blob)
        except SnapshotRejected as error:
            raise ModelConflict(f"snapshot {meta.version} cannot rank: {error}") from error


def _change(action: ModelAction, subject: str, actor: str, request_id: str) -> ModelChange:
    return ModelChange(action, subject, actor, request_id, time.time_ns() // 1_000_000)


def _identity(meta: SnapshotMeta) -> tuple[int, str]:
    return meta.version, meta.sha256


def _names(kept: Iterable[KeptSnapshot], identity: tuple[int, str]) -> tuple[str, ...]:
    return tuple(item.name for item in kept if _identity(item.meta) == identity)
