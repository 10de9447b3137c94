"""Ports of model administration: what is kept in SQL, and the pin as the readers of snapshots see it."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from libs.adapters.ports import SnapshotMeta, SnapshotStore


@dataclass(frozen=True, slots=True)
class Pin:
    """Which kept snapshot ranks in place of the newest. ``name`` None: nothing is pinned.

    ``sha256`` is the blob's, so that a version that came to be used twice is not mistaken.
    """

    name: str | None = None
    version: int = 0
    sha256: str = ""
    changed_ms: int = 0
    changed_by: str = ""


UNPINNED = Pin()


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """A snapshot that somebody wants to have again, under the name they gave it."""

    name: str
    meta: SnapshotMeta
    kept_ms: int
    kept_by: str


ModelAction = Literal["keep", "pin", "unpin", "delete"]


@dataclass(frozen=True, slots=True)
class ModelChange:
    """One line of the audit log. ``subject`` is the model's name; ``actor`` the id of the key that asked."""

    action: ModelAction
    subject: str
    actor: str
    request_id: str
    at_ms: int


class ModelStore(Protocol):
    """Kept snapshots, the pin and the audit log of one model line, in SQL: they outlive an emptied Redis.

    Each change and its line of the audit log are one transaction; lines are only ever added.
    """

    async def keep(self, name: str, meta: SnapshotMeta, blob: bytes, change: ModelChange) -> None:
        """Keep a snapshot under a name, its sample of trained events aside; doing so again changes nothing.

        Raises ``ModelConflict`` when the name stands for another snapshot.
        """

    async def kept(self) -> list[KeptSnapshot]:
        """Return all kept snapshots, the ones kept last first."""

    async def load(self, name: str) -> tuple[SnapshotMeta, bytes]:
        """Return one kept snapshot; raises ``NoSnapshot`` when there is none of that name."""

    async def pinned(self) -> Pin:
        """Return the pin."""

    async def pin(self, name: str, change: ModelChange) -> Pin:
        """Pin a kept snapshot; raises ``NoSnapshot`` when there is none of that name."""

    async def unpin(self, change: ModelChange) -> bool:
        """Let the newest snapshot rank again; False, and no line in the audit log, when nothing was pinned."""

    async def delete(self, name: str, change: ModelChange) -> None:
        """Forget a kept snapshot; raises ``NoSnapshot``, and ``ModelConflict`` for the pinned one."""

    async def changes(self, limit: int) -> list[ModelChange]:
        """Return the newest lines of the audit log, newest first."""

    async def close(self) -> None:
        """Close the pool."""


class ServedSnapshots(SnapshotStore, Protocol):
    """A snapshot store that also tells its readers what is pinned."""

    async def mirror(self, pin: Pin, kept: Collection[int]) -> None:
        """Tell every reader what is pinned, and exempt these versions from retention in place of those told before."""

    async def mirrored(self) -> Pin | None:
        """Return the pin as it was told last; None when the store never heard of one, or lost it."""

    async def wait_mirrored(self, known: Pin | None, timeout_s: float) -> Pin | None:
        """Return what ``mirrored`` returns, as soon as it differs from ``known``; at the latest after ``timeout_s``."""

    async def metas(self) -> list[SnapshotMeta]:
        """Return what was published beside each stored snapshot, newest version first."""
