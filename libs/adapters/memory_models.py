"""Model administration in this process. Set ``available = False`` to take the store away."""

from dataclasses import replace

from libs.adapters.memory_stores import _Switch
from libs.adapters.model_ports import UNPINNED, KeptSnapshot, ModelChange, Pin
from libs.adapters.ports import SnapshotMeta
from libs.errors import ModelConflict, NoSnapshot


class MemoryModelStore(_Switch):
    """Twin of ``SqlModelStore``."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, tuple[KeptSnapshot, bytes]] = {}
        self._pin = UNPINNED
        self._changes: list[ModelChange] = []

    async def keep(self, name: str, meta: SnapshotMeta, blob: bytes, change: ModelChange) -> None:
        """Keep a snapshot under a name; raises ``ModelConflict`` when it stands for another one."""
        self._require()
        if name in self._kept:
            held = self._kept[name][0].meta
            if (held.version, held.sha256) != (meta.version, meta.sha256):
                raise ModelConflict(f"{name} is the name of snapshot {held.version}")
            return
        self._kept[name] = (KeptSnapshot(name, replace(meta, trained=()), change.at_ms, change.actor), blob)
        self._changes.append(change)

    async def kept(self) -> list[KeptSnapshot]:
        """Return all kept snapshots, the ones kept last first."""
        self._require()
        return sorted((kept for kept, _ in self._kept.values()), key=lambda kept: (-kept.kept_ms, kept.name))

    async def load(self, name: str) -> tuple[SnapshotMeta, bytes]:
        """Return one kept snapshot; raises ``NoSnapshot``."""
        self._require()
        kept, blob = self._named(name)
        return kept.meta, blob

    async def pinned(self) -> Pin:
        """Return the pin."""
        self._require()
        return self._pin

    async def pin(self, name: str, change: ModelChange) -> Pin:
        """Pin a kept snapshot; raises ``NoSnapshot``."""
        self._require()
        meta = self._named(name)[0].meta
        self._pin = Pin(name, meta.version, meta.sha256, change.at_ms, change.actor)
        self._changes.append(change)
        return self._pin

    async def unpin(self, change: ModelChange) -> bool:
        """Let the newest snapshot rank again; False when nothing was pinned."""
        self._require()
        if self._pin.name is None:
            return False
        self._pin = UNPINNED
        self._changes.append(change)
        return True

    async def delete(self, name: str, change: ModelChange) -> None:
        """Forget a kept snapshot; raises ``NoSnapshot``, and ``ModelConflict`` for the pinned one."""
        self._require()
        self._named(name)
        if name == self._pin.name:
            raise ModelConflict(f"{name} is pinned: change to another model first")
        del self._kept[name]
        self._changes.append(change)

    async def changes(self, limit: int) -> list[ModelChange]:
        """Return the newest lines of the audit log, newest first."""
        self._require()
        return self._changes[::-1][:limit]

    async def close(self) -> None:
        """Do nothing."""

    def _named(self, name: str) -> tuple[KeptSnapshot, bytes]:
        if name not in self._kept:
            raise NoSnapshot(f"no snapshot is kept as {name}")
        return self._kept[name]
