"""Snapshots, histories and the catalogue in this process. Set ``available = False`` to take a store away."""

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from libs.adapters.model_ports import Pin
from libs.adapters.ports import SnapshotMeta, StoredContent, StoredKey, Visit
from libs.adapters.snapshot_retention import superseded
from libs.adapters.user_history import POPULARITY_HALF_LIFE_MS
from libs.errors import Fenced, NoSnapshot, StoreUnavailable

_POLL_S = 1.0  # as the real store's slow path


class _Switch:
    """What can be taken away."""

    def __init__(self) -> None:
        self.available = True

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable(f"{type(self).__name__} is switched off")


class MemorySnapshotStore(_Switch):
    """Twin of ``RedisSnapshotStore``, shared by publisher and readers of one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._published = asyncio.Event()
        self._kept: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self._current: SnapshotMeta | None = None
        self._epoch = 0
        self._told = asyncio.Event()
        self._pin: Pin | None = None
        self._exempt: frozenset[int] = frozenset()

    async def claim_epoch(self, at_least: int) -> int:
        """Return a new epoch; publishers with a lower one are fenced from now on."""
        self._require()
        self._epoch = max(self._epoch + 1, at_least)
        return self._epoch

    async def publish(self, meta: SnapshotMeta, blob: bytes) -> None:
        """Keep the blob and swap the pointer; raises ``Fenced`` when epoch or version forbid it."""
        self._require()
        if self._current is not None and _identity(self._current) == _identity(meta):
            return
        if meta.epoch < self._epoch:
            raise Fenced(f"epoch {meta.epoch} is over, {self._epoch} holds the pointer")
        if self._current is not None and meta.version <= self._current.version:
            raise Fenced(f"version {meta.version} is not above the current {self._current.version}")
        self._epoch = meta.epoch
        self._kept[meta.version] = (meta, blob)
        self._current = meta
        for version in superseded(self._kept.keys() - self._exempt):
            del self._kept[version]
        self._published.set()
        self._published = asyncio.Event()

    async def current(self) -> SnapshotMeta | None:
        """Return what the pointer names."""
        self._require()
        return self._current

    async def load(self, version: int) -> tuple[SnapshotMeta, bytes]:
        """Return one kept version; raises ``NoSnapshot``."""
        self._require()
        if version not in self._kept:
            raise NoSnapshot(f"snapshot {version} is not kept")
        return self._kept[version]

    async def versions(self) -> list[int]:
        """Return the kept versions, newest first."""
        self._require()
        return sorted(self._kept, reverse=True)

    async def wait(self, after_version: int, timeout_s: float) -> SnapshotMeta | None:
        """Return the current meta as soon as its version differs, None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            published = self._published
            meta = await self.current()
            if meta is not None and meta.version != after_version:
                return meta
            if (left := deadline - time.monotonic()) <= 0:
                return None
            await _wait(published, min(left, _POLL_S))

    async def mirror(self, pin: Pin, kept: Collection[int]) -> None:
        """Tell readers the pin, and exempt versions from retention."""
        self._require()
        self._pin, self._exempt = pin, frozenset(kept)
        self._told.set()
        self._told = asyncio.Event()

    async def mirrored(self) -> Pin | None:
        """Return the pin as it was told last."""
        self._require()
        return self._pin

    async def wait_mirrored(self, known: Pin | None, timeout_s: float) -> Pin | None:
        """Return the pin as soon as it differs, at the latest after the timeout."""
        told = self._told
        if (pin := await self.mirrored()) != known:
            return pin
        await _wait(told, timeout_s)
        return await self.mirrored()

    async def metas(self) -> list[SnapshotMeta]:
        """Return the metadata of what is stored, newest version first."""
        self._require()
        return [self._kept[version][0] for version in sorted(self._kept, reverse=True)]

    def clear(self) -> None:
        """Come back empty, as a Redis that lost its memory."""
        self._kept.clear()
        self._current = None
        self._epoch = 0
        self._pin, self._exempt = None, frozenset()

    async def close(self) -> None:
        """Do nothing."""


def _identity(meta: SnapshotMeta) -> tuple[int, int, str]:
    return meta.epoch, meta.version, meta.sha256


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiter], timeout=timeout_s)
    finally:
        waiter.cancel()


class MemoryUserHistory(_Switch):
    """Twin of ``RedisUserHistory``."""

    def __init__(self, cap: int = 100) -> None:
        super().__init__()
        self._cap = cap
        self._visits: dict[str, dict[str, Visit]] = {}
        self._seen: set[str] = set()
        self._erased_ms: dict[str, int] = {}
        self._consumptions: Counter[int] = Counter()
        self._popularity: dict[int, float] = {}
        self._generation: str | None = None

    async def append(self, visits: Sequence[tuple[str, Visit]]) -> None:
        """Add visits; one already there, or older than all of a full history, changes nothing."""
        self._require()
        await asyncio.sleep(0)
        for user_id, visit in visits:
            if visit.timestamp_ms <= self._erased_ms.get(user_id, -1):
                continue
            self._seen.add(user_id)
            member = f"{visit.event_id}:{visit.content_id}"
            kept = self._visits.setdefault(user_id, {})
            if member in kept:
                continue
            kept[member] = visit
            if len(kept) > self._cap:
                del kept[min(kept, key=lambda name: (kept[name].timestamp_ms, name.encode()))]
            if member in kept:
                self._consumptions[visit.content_id] += 1
                weight = visit.timestamp_ms / POPULARITY_HALF_LIFE_MS
                before = self._popularity.get(visit.content_id, -math.inf)
                self._popularity[visit.content_id] = float(np.logaddexp2(before, weight))

    async def recent(self, user_id: str, limit: int) -> list[Visit]:
        """Return the newest visits, newest first."""
        self._require()
        kept = self._visits.get(user_id, {})
        newest = sorted(kept, key=lambda name: (kept[name].timestamp_ms, name.encode()), reverse=True)
        return [kept[name] for name in newest[:limit]]

    async def mark_seen(self, user_ids: Sequence[str]) -> None:
        """Remember these users."""
        self._require()
        self._seen.update(user_ids)

    async def erase(self, user_id: str, until_ms: int) -> None:
        """Forget a user's visits up to this time, and refuse them from then on."""
        self._require()
        self._erased_ms[user_id] = max(until_ms, self._erased_ms.get(user_id, -1))
        kept = self._visits.pop(user_id, {})
        if later := {name: visit for name, visit in kept.items() if visit.timestamp_ms > until_ms}:
            self._visits[user_id] = later
        self._seen.discard(user_id)

    async def seen(self, user_id: str) -> bool:
        """Return whether any event named this user."""
        self._require()
        return user_id in self._seen or user_id in self._visits

    async def consumptions(self, content_ids: Sequence[int]) -> list[int]:
        """Return how often each content was appended."""
        self._require()
        return [self._consumptions[content_id] for content_id in content_ids]

    async def popular(self, limit: int) -> list[int]:
        """Return the contents appended most of late, most first."""
        self._require()
        ordered = sorted(self._popularity, key=lambda content: (self._popularity[content], str(content)), reverse=True)
        return ordered[: max(0, limit)]

    async def generation(self) -> str | None:
        """Return the generation key."""
        self._require()
        return self._generation

    async def begin_generation(self, name: str) -> None:
        """Set the generation key."""
        self._require()
        self._generation = name

    def clear(self) -> None:
        """Come back empty."""
        self._visits.clear()
        self._seen.clear()
        self._erased_ms.clear()
        self._consumptions.clear()
        self._popularity.clear()
        self._generation = None

    async def close(self) -> None:
        """Do nothing."""


class MemoryContentStore(_Switch):
    """Twin of ``SqlContentStore``; ``users`` plays the legacy users table."""

    def __init__(self, contents: Iterable[StoredContent] = (), users: Iterable[str] = ()) -> None:
        super().__init__()
        self._contents = {content.content_id: content for content in contents}
        self._users = {uuid.UUID(user) for user in users}

    async def start(self) -> None:
        """Check that the store is there."""
        self._require()

    async def get(self, content_ids: Sequence[int]) -> list[StoredContent]:
        """Return those that exist."""
        self._require()
        await asyncio.sleep(0)
        return [self._contents[content_id] for content_id in set(content_ids) & self._contents.keys()]

    async def put(self, content: StoredContent) -> None:
        """Insert or replace one content."""
        self._require()
        if content.embedding is not None and not all(map(math.isfinite, content.embedding)):
            raise ValueError(f"content {content.content_id}: the embedding is not finite")
        self._contents[content.content_id] = content

    async def changed_since(self, cursor: str | None, limit: int) -> tuple[list[StoredContent], str | None]:
        """Return the next page by id."""
        self._require()
        after = -1 if cursor is None else int(cursor)
        ids = sorted(content_id for content_id in self._contents if content_id > after)[:limit]
        return [self._contents[content_id] for content_id in ids], str(ids[-1]) if len(ids) == limit else None

    async def fingerprints(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Return id and hash of the next contents by id."""
        self._require()
        ids = sorted(content_id for content_id in self._contents if content_id > after)[:limit]
        return [(content_id, hash(self._contents[content_id])) for content_id in ids]

    async def user_exists(self, user_id: str) -> bool:
        """Return whether this UUID is a user; False for text that is none."""
        self._require()
        try:
            return uuid.UUID(user_id) in self._users
        except ValueError:
            return False

    async def close(self) -> None:
        """Do nothing."""


class MemoryKeyStore(_Switch):
    """Twin of ``SqlKeyStore``."""

    def __init__(self, keys: Iterable[StoredKey] = ()) -> None:
        super().__init__()
        self._keys = {key.id: key for key in keys}

    async def keys(self) -> list[StoredKey]:
        """Return every key."""
        self._require()
        return list(self._keys.values())

    async def add(self, key: StoredKey) -> None:
        """Keep a new key."""
        self._require()
        self._keys[key.id] = key

    async def revoke(self, key_id: str, now_ms: int) -> bool:
        """Revoke a key; False when there is none of this id."""
        self._require()
        key = self._keys.get(key_id)
        if key is not None and key.revoked_ms is None:
            self._keys[key_id] = replace(key, revoked_ms=now_ms)
        return key is not None

    async def close(self) -> None:
        """Do nothing."""
