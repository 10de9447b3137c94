"""The producer port on Kafka."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from libs.adapters.kafka_batches import LINGER_S, Batches, Delivery
from libs.adapters.kafka_broker import Broker, broker_of
from libs.adapters.kafka_logs import limit_kafka_logs
from libs.adapters.ports import Outgoing, Place, TopicPartition
from libs.errors import StoreUnavailable
from libs.events.topics import partition_of

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS: Final = 30_000  # above 15 s: a killed broker needs that long to return at default sessions
MAX_RECORD_BYTES: Final = 1_000_000  # the broker takes 1 MiB, with what it adds
_START_S: Final = 10.0  # a broker that answers at all answers well within this
_STOP_S: Final = 5.0  # a service that stops may wait this long for what is in flight

# Murmur2 in Python costs as much as the rest of handing a record over, and the same users come again and again.
_partition_of = lru_cache(maxsize=65_536)(partition_of)


class KafkaProducer:
    """Idempotent producer with ``acks=all``, zstd and a deadline for each append.

    A record not acknowledged by its deadline may still be appended later (an idempotent send is never withdrawn), so
    readers drop duplicates by event id.

    Parameters
    ----------
    max_pending_bytes
        Bound of what is handed over and not acknowledged. Beyond it ``append`` answers False at once: an outage must
        not fill the memory.
    linger_s
        How long a record may wait for others of its partition. Longer batches cost less.
    """

    def __init__(
        self, broker: Broker | str, max_pending_bytes: int = 32 * 1024 * 1024, linger_s: float = LINGER_S
    ) -> None:
        limit_kafka_logs()
        self._broker = broker_of(broker)
        self._max_pending_bytes = max_pending_bytes
        self._linger_s = linger_s
        self._batches: Batches | None = None
        self._broken: Batches | None = None
        self._renewal = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._pending = 0
        self._pending_bytes = 0

    async def start(self) -> None:
        """Connect; raises ``StoreUnavailable`` when the broker does not answer in time."""
        try:
            async with asyncio.timeout(_START_S):
                await self._live()
        except (TimeoutError, KafkaError) as error:
            raise StoreUnavailable(f"no broker at {self._broker}: {error!r}") from error

    @property
    def pending(self) -> int:
        """Records handed over and not yet acknowledged."""
        return self._pending

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        """Return, for each record in order, whether the broker acknowledged it within the deadline.

        Records of one call and one partition are appended in order.
        """
        deliveries = await self._deliver(records, timeout_s)
        return [delivery is not None and _acknowledged(delivery) for _, delivery in deliveries]

    async def place(self, records: Sequence[Outgoing], timeout_s: float) -> list[Place | None]:
        """Append, and return for each record where it is; None when the broker did not say so within the deadline."""
        deliveries = await self._deliver(records, timeout_s)
        return [_place(partition, delivery) for partition, delivery in deliveries]

    async def _deliver(self, records: Sequence[Outgoing], timeout_s: float) -> list[tuple[int, Delivery | None]]:
        """Return partition and delivery of each record, once all are settled or the deadline is over."""
        if self._pending_bytes >= self._max_pending_bytes:
            return [(-1, None)] * len(records)
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                batches = await self._live()
                counts = {topic: await batches.partitions(topic) for topic in {record.topic for record in records}}
        except (TimeoutError, KafkaError) as error:
            log.warning("producer.unavailable", error=repr(error))
            return [(-1, None)] * len(records)
        added = [self._add(batches, record, counts[record.topic]) for record in records]
        deliveries = [delivery for _, delivery in added]
        self._count(batches, records, deliveries)
        waiting = {delivery for delivery in deliveries if delivery is not None and not delivery.done()}
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
            if late:
                log.warning("producer.deadline", batches=len(late), of=len(waiting))
        return added

    async def stop(self) -> None:
        """Flush what is pending, for a bounded time, and close."""
        batches, self._batches = self._batches, None
        if batches is not None:
            await _close(batches)
        await asyncio.gather(*self._closing)

    def _add(self, batches: Batches, record: Outgoing, partitions: int) -> tuple[int, Delivery | None]:
        if _size(record) > MAX_RECORD_BYTES:
            log.error("producer.oversize", topic=record.topic, bytes=_size(record))
            return -1, None
        partition = record.partition
        if partition is None:
            partition = random.randrange(partitions) if record.key is None else _partition_of(record.key, partitions)  # noqa: S311
        elif not 0 <= partition < partitions:
            raise ValueError(f"topic {record.topic} has no partition {partition}")
        return partition, batches.add(TopicPartition(record.topic, partition), record)

    def _count(self, batches: Batches, records: Sequence[Outgoing], deliveries: Sequence[Delivery | None]) -> None:
        """Count records as pending until their batch is settled."""
        pending: Counter[Delivery] = Counter()
        size: Counter[Delivery] = Counter()
        for record, delivery in zip(records, deliveries, strict=True):
            if delivery is not None:
                pending[delivery] += 1
                size[delivery] += _size(record)
        for delivery, number in pending.items():
            self._pending += number
            self._pending_bytes += size[delivery]
            delivery.add_done_callback(self._settled(batches, number, size[delivery]))

    def _settled(self, batches: Batches, records: int, size: int) -> Callable[[Delivery], None]:
        def settle(delivery: Delivery) -> None:
            self._pending -= records
            self._pending_bytes -= size
            if not delivery.cancelled() and (error := delivery.exception()) is not None:
                self._note(batches, error)

        return settle

    def _note(self, batches: Batches, error: BaseException) -> None:
        """Mark a producer that cannot recover: after a gap in its sequence numbers every later batch fails too."""
        retriable = getattr(error, "retriable", False) or isinstance(error, KafkaTimeoutError)
        if not retriable and not isinstance(error, MessageSizeTooLargeError) and batches is self._batches:
            log.warning("producer.broken", error=repr(error))
            self._broken = batches

    async def _live(self) -> Batches:
        if self._batches is not None and self._batches is not self._broken:
            return self._batches
        async with self._renewal:
            if self._batches is None or self._batches is self._broken:
                fresh = Batches(await _connect(self._broker), REQUEST_TIMEOUT_MS / 1_000, self._linger_s)
                if self._batches is not None:
                    self._close_later(self._batches)
                self._batches = fresh
            return self._batches

    def _close_later(self, batches: Batches) -> None:
        task = asyncio.create_task(_close(batches))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _acknowledged(delivery: Delivery) -> bool:
    return delivery.done() and not delivery.cancelled() and delivery.exception() is None


def _place(partition: int, delivery: Delivery | None) -> Place | None:
    if delivery is None or not _acknowledged(delivery) or not delivery.result():
        return None
    return Place(partition, delivery.result())


def _size(record: Outgoing) -> int:
    return len(record.value or b"") + len(record.key or b"")


async def _connect(broker: Broker) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        **broker.options(),
        acks="all",
        enable_idempotence=True,
        max_batch_size=131_072,
        compression_type="zstd",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
    except BaseException:  # also a deadline's cancellation: a half-started producer keeps sockets and tasks
        await _stop(producer)
        raise
    return producer


async def _close(batches: Batches) -> None:
    await batches.flush(_STOP_S)
    await batches.abandon()
    await _stop(batches.producer)


async def _stop(producer: AIOKafkaProducer) -> None:
    """Stop a producer; without a broker its flush would wait for ever, so give up after a while."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=_STOP_S)
    if not stopping.done():
        await _abandon(producer)
    await asyncio.gather(stopping, return_exceptions=True)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Take apart a producer that cannot flush: aiokafka has no public way to give up what is pending."""
    await producer.client.close()
    sender = producer._sender.sender_task
    while not sender.done():  # its first cancellation only makes it wait for the requests in flight
        sender.cancel()
        await asyncio.wait([sender], timeout=0.2)
    accumulator = producer._message_accumulator
    batches = {batch for waiting in accumulator._batches.values() for batch in waiting} | accumulator._pending_batches
    accumulator._pending_batches |= batches  # a batch that fails removes itself from there
    for batch in batches:
        batch.failure(KafkaTimeoutError("the producer was closed first"))
        batch._drain_waiter.exception()  # nobody waits for it, and asyncio would log that
