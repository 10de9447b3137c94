"""What the services need from the outside world, as small protocols.

Every port has an adapter on the real thing and an in-memory twin (``libs/adapters/memory.py``); one contract suite
runs against both. Adapters carry bytes and ids, retry what is worth retrying, and raise ``StoreUnavailable`` when the
other side does not answer within their deadline.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the broker keeps it; ``append_ms`` is the broker's clock, which no client can move."""

    topic: str
    partition: int
    offset: int
    append_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to append. The partition follows from murmur2 of the key unless ``partition`` is given."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class Place(NamedTuple):
    """Where a record went: it lies in ``partition``, before ``until``, the offset after the batch that took it."""

    partition: int
    until: int


class Producer(Protocol):
    """Appends with ``acks=all`` and idempotence."""

    async def start(self) -> None:
        """Connect; raises ``StoreUnavailable`` when the broker does not answer in time."""

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        """Return, for each record in order, whether the broker acknowledged it within the deadline."""

    async def place(self, records: Sequence[Outgoing], timeout_s: float) -> list[Place | None]:
        """Append, and return for each record where it is; None when the broker did not say so within the deadline."""

    async def stop(self) -> None:
        """Flush what is pending and close."""

    @property
    def pending(self) -> int:
        """Records handed over and not yet acknowledged."""


class PartitionReader(Protocol):
    """Reads assigned partitions from given offsets; no group, no rebalance. Used by the learner and by catalogues."""

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Assign exactly these partitions and seek each to its offset (-1: the beginning)."""

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records, each partition in offset order; empty after ``timeout_ms`` of silence or outage."""

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Return no record of these partitions, or of all, until ``resume``: ``poll`` waits out its timeout then."""

    def resume(self) -> None:
        """Return records of all partitions again."""

    def positions(self) -> dict[TopicPartition, int]:
        """Next offset to return for each assigned partition; local, never blocks."""

    def lag(self) -> dict[TopicPartition, int]:
        """High water mark minus position for each assigned partition, from the last fetch; local, never blocks."""

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Log end offset of each assigned partition, asked of the broker; raises ``StoreUnavailable``."""

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """First retained offset of each assigned partition, asked of the broker; raises ``StoreUnavailable``."""

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """First offset of each assigned partition that was appended at a moment or later; its end if none was.

        Asked of the broker; raises ``StoreUnavailable``.
        """

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Store offsets under the group id for lag displays; False when the broker did not take them in 5 s."""

    async def committed(self) -> dict[TopicPartition, int]:
        """Return what was stored under the group id for the assigned partitions; raises ``StoreUnavailable``."""

    async def stop(self) -> None:
        """Close."""


class GroupOffsets(Protocol):
    """Watches a consumer group from outside: joins nothing, fetches no record. Used by ingest for the learner's lag."""

    async def start(self) -> None:
        """Connect; raises ``StoreUnavailable``."""

    async def behind(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return log end minus committed offset of each partition, all that is retained where nothing was committed.

        Raises ``StoreUnavailable``.
        """

    async def stop(self) -> None:
        """Close."""


class GroupReader(Protocol):
    """Reads as a member of a consumer group, at least once. Used by the history projector."""

    async def start(self) -> None:
        """Join the group; a group without offsets starts at the beginning."""

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records; empty after ``timeout_ms``."""

    async def commit(self) -> bool:
        """Commit what was returned by ``poll`` so far; False when the broker did not take it in 5 s."""

    def lag(self) -> dict[TopicPartition, int]:
        """High water mark minus position for each assigned partition; local, never blocks."""

    @property
    def rebalances(self) -> int:
        """Times partitions were given to this member, the first time at its start."""

    async def stop(self) -> None:
        """Leave the group and close."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it shall exist. ``config`` holds broker topic settings, values as strings."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


class TopicAdmin(Protocol):
    """Creates topics and describes the cluster."""

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics and bring settings of existing ones up to date; idempotent.

        Raises ``RefusedStart`` when an existing topic has another partition count: changing it would move users.
        """

    async def partitions(self, topic: str) -> int:
        """Return the partition count of an existing topic."""

    async def cluster_id(self) -> str:
        """Return the broker's cluster id."""

    async def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What is published beside a snapshot blob.

    ``offsets`` are the next offsets the weights contain, ``"topic:partition" → offset``. ``trained`` samples the
    interactions whose row had its first gradient since the last snapshot: ``(event id, append time in ms)``.
    ``extra`` holds ``cluster_id``, and means over the updates since the last snapshot, if any: ``loss``, ``q_mean``.
    """

    version: int
    epoch: int
    step: int
    sha256: str
    size_bytes: int
    created_ms: int
    format: int
    arch: str
    offsets: Mapping[str, int]
    trained: tuple[tuple[str, int], ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


class SnapshotStore(Protocol):
    """Immutable blobs and one pointer to the current one (streaming.md §5)."""

    async def claim_epoch(self, at_least: int) -> int:
        """Return a new epoch, above every epoch claimed so far and ≥ ``at_least``."""

    async def publish(self, meta: SnapshotMeta, blob: bytes) -> None:
        """Store the blob, then swap the pointer if epoch and version both allow it.

        Raises ``Fenced`` when a newer epoch, or a version not below this one, holds the pointer.
        """

    async def current(self) -> SnapshotMeta | None:
        """Return what the pointer names, None when nothing was ever published (or the store is empty)."""

    async def load(self, version: int) -> tuple[SnapshotMeta, bytes]:
        """Return one kept version; raises ``NoSnapshot`` when it is gone."""

    async def versions(self) -> list[int]:
        """Return the kept versions, newest first."""

    async def wait(self, after_version: int, timeout_s: float) -> SnapshotMeta | None:
        """Return the current meta as soon as its version differs from ``after_version``; None after ``timeout_s``."""

    async def close(self) -> None:
        """Close the connection."""


class Visit(NamedTuple):
    """One entry of a user's history. ``timestamp_ms`` is event time."""

    event_id: str
    content_id: int
    timestamp_ms: int


class UserHistory(Protocol):
    """The recently consumed contents of each user; capped, idempotent by event id."""

    async def append(self, visits: Sequence[tuple[str, Visit]]) -> None:
        """Add (user id, visit) pairs in one round trip; adding one twice changes nothing."""

    async def recent(self, user_id: str, limit: int) -> list[Visit]:
        """Return the newest visits, newest first; empty for an unknown user. Keeps a deadline of its own."""

    async def mark_seen(self, user_ids: Sequence[str]) -> None:
        """Remember that events named these users, also when nothing moved their history."""

    async def erase(self, user_id: str, until_ms: int) -> None:
        """Forget a user's visits up to this event time, and that there was such a user.

        Older visits are refused from then on, so that it does not matter in which order both are written.
        """

    async def seen(self, user_id: str) -> bool:
        """Return whether any event named this user."""

    async def consumptions(self, content_ids: Sequence[int]) -> list[int]:
        """Return how often each content was appended (once per event id); what the cold policy ranks by."""

    async def popular(self, limit: int) -> list[int]:
        """Return the contents appended most of late, most first: a visit counts half for each half-life since."""

    async def generation(self) -> str | None:
        """Return the generation key; None means that the store came back empty and must be rebuilt."""

    async def begin_generation(self, name: str) -> None:
        """Set the generation key."""

    async def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """One content of the catalogue. ``embedding`` is None when missing or broken; its consumer counts that."""

    content_id: int
    title: str = ""
    description: str = ""
    embedding: tuple[float, ...] | None = None
    embedding_broken: bool = False
    kind: str = ""
    hidden: bool = False
    published_at_ms: int | None = None
    vector_version: str = ""


class ContentStore(Protocol):
    """The SQL catalogue: the legacy tables as they are, and moard's own beside them."""

    async def start(self) -> None:
        """Connect; raises ``StoreUnavailable``."""

    async def get(self, content_ids: Sequence[int]) -> list[StoredContent]:
        """Return those that exist, in no particular order, in one query."""

    async def put(self, content: StoredContent) -> None:
        """Insert or replace one content."""

    async def changed_since(self, cursor: str | None, limit: int) -> tuple[list[StoredContent], str | None]:
        """Return the next page of all contents by id, and the cursor of the next page (None at the end)."""

    async def fingerprints(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Return id and fingerprint of the next contents above an id, by id; fewer than ``limit`` at the end.

        Equal while nothing of a content changes, different (but for one chance in 2³²) when anything does. Means
        something within this process only.
        """

    async def user_exists(self, user_id: str) -> bool:
        """Return whether the users table has this UUID; False for text that is no UUID."""

    async def close(self) -> None:
        """Close the pool."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """What is kept of an API key: its SHA-256 in hexadecimal, never the key."""

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None


class KeyStore(Protocol):
    """API keys, few, in SQL. Its callers read them all."""

    async def keys(self) -> list[StoredKey]:
        """Return every key, revoked and expired ones too; empty where the table was not created yet.

        Raises ``StoreUnavailable``.
        """

    async def add(self, key: StoredKey) -> None:
        """Keep a new key."""

    async def revoke(self, key_id: str, now_ms: int) -> bool:
        """Revoke a key for good; False when there is none of this id. Revoking twice keeps the first time."""

    async def close(self) -> None:
        """Close the pool."""
