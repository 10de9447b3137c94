"""The event log in this process: a broker object, and the producer and admin ports over it."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from libs.adapters.log_errors import partition_mismatch
from libs.adapters.ports import Outgoing, Place, Record, TopicPartition, TopicSpec
from libs.errors import StoreUnavailable
from libs.events.topics import partition_of


def epoch_ms() -> int:
    """Return the wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Partition:
    """Retained records and the offset of the first."""

    records: list[Record] = field(default_factory=list)
    beginning: int = 0

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self.beginning + len(self.records)


@dataclass(slots=True)
class Group:
    """Members and committed offsets of a consumer group; each change of members is a generation."""

    members: list[object] = field(default_factory=list)
    generation: int = 0
    committed: dict[TopicPartition, int] = field(default_factory=dict)


class MemoryLog:
    """Topics, partitions and groups of one event loop, with the semantics the services rely on.

    Set ``available = False`` to take the broker away: appends and commits answer False, polls stay empty, questions
    raise ``StoreUnavailable``, as with the real one.

    Parameters
    ----------
    clock_ms
        Gives the append time of each record, epoch milliseconds.
    """

    def __init__(self, clock_ms: Callable[[], int] = epoch_ms, cluster_id: str = "memory") -> None:
        self.available = True
        self.cluster_id = cluster_id
        self._clock_ms = clock_ms
        self._topics: dict[str, list[Partition]] = {}
        self._groups: defaultdict[str, Group] = defaultdict(Group)
        self._waiters: set[asyncio.Future[None]] = set()

    def create(self, spec: TopicSpec) -> None:
        """Create a topic; raises ``RefusedStart`` when it exists with another partition count."""
        existing = self._topics.setdefault(spec.name, [Partition() for _ in range(spec.partitions)])
        if len(existing) != spec.partitions:
            raise partition_mismatch(spec.name, len(existing), spec.partitions)

    def partitions(self, topic: str) -> list[Partition]:
        """Return a topic's partitions; raises ``StoreUnavailable`` during an outage or for an unknown topic."""
        self.require()
        if topic not in self._topics:
            raise StoreUnavailable(f"topic {topic} does not exist")
        return self._topics[topic]

    def partition(self, tp: TopicPartition) -> Partition:
        """Return one partition, as ``partitions`` does."""
        return self.partitions(tp.topic)[tp.partition]

    def records(self, topic: str) -> list[Record]:
        """Return all retained records of a topic, partition after partition."""
        return [record for partition in self._topics[topic] for record in partition.records]

    def append(self, outgoing: Outgoing) -> bool:
        """Append one record; False when it cannot be kept."""
        return self.place(outgoing) is not None

    def place(self, outgoing: Outgoing) -> Place | None:
        """Append one record and return where it is; None when it cannot be kept."""
        if not self.available or outgoing.topic not in self._topics:
            return None
        partitions = self._topics[outgoing.topic]
        number = outgoing.partition
        if number is None:
            number = partition_of(outgoing.key or b"", len(partitions))
        target = partitions[number]
        target.records.append(
            Record(
                topic=outgoing.topic,
                partition=number,
                offset=target.end,
                append_ms=self._clock_ms(),
                key=outgoing.key,
                value=outgoing.value,
                headers=outgoing.headers,
            )
        )
        self.wake()
        return Place(number, target.end)

    def truncate(self, tp: TopicPartition, before_offset: int) -> None:
        """Forget the records before an offset, as retention does."""
        target = self._topics[tp.topic][tp.partition]
        gone = max(0, min(before_offset, target.end) - target.beginning)
        del target.records[:gone]
        target.beginning += gone

    def group(self, group_id: str) -> Group:
        """Return a consumer group, created at first sight."""
        return self._groups[group_id]

    def require(self) -> None:
        """Raise ``StoreUnavailable`` during an outage."""
        if not self.available:
            raise StoreUnavailable("the in-memory broker is switched off")

    def wake(self) -> None:
        """Let every waiting poll look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change or after the timeout."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            self._waiters.discard(waiter)


class MemoryProducer:
    """Twin of ``KafkaProducer``."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def start(self) -> None:
        """Check that the broker is there."""
        self._log.require()

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:  # noqa: ARG002 - the port's
        """Append at once; an outage answers False without waiting for the deadline."""
        await asyncio.sleep(0)  # a real append yields to the loop, and so must this one
        return [self._log.append(record) for record in records]

    async def place(self, records: Sequence[Outgoing], timeout_s: float) -> list[Place | None]:  # noqa: ARG002
        """Append at once."""
        await asyncio.sleep(0)
        return [self._log.place(record) for record in records]

    async def stop(self) -> None:
        """Do nothing: nothing is ever pending."""

    @property
    def pending(self) -> int:
        """Always 0."""
        return 0


class MemoryTopicAdmin:
    """Twin of ``KafkaTopicAdmin``."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics; topic settings mean nothing here."""
        self._log.require()
        for spec in topics:
            self._log.create(spec)

    async def partitions(self, topic: str) -> int:
        """Return the partition count."""
        return len(self._log.partitions(topic))

    async def cluster_id(self) -> str:
        """Return the cluster id given at construction."""
        self._log.require()
        return self._log.cluster_id

    async def close(self) -> None:
        """Do nothing."""
