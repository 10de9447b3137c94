"""The producer port on Kafka."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from libs.adapters.kafka_logs import limit_kafka_logs
from libs.adapters.ports import Outgoing
from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_MS: Final = 30_000  # above 15 s: a killed broker needs that long to return at default sessions
_START_S: Final = 10.0  # a broker that answers at all answers well within this
_STOP_S: Final = 5.0  # a service that stops may wait this long for what is in flight


class KafkaProducer:
    """Idempotent producer with ``acks=all``, lz4 and a deadline for each append.

    A record not acknowledged by its deadline may still be appended later (an idempotent send is never withdrawn), so
    readers drop duplicates by event id.

    Parameters
    ----------
    max_pending_bytes
        Bound of what is handed over and not acknowledged. Beyond it ``append`` answers False at once: an outage must
        not fill the memory.
    """

    def __init__(self, bootstrap_servers: str, max_pending_bytes: int = 32 * 1024 * 1024) -> None:
        limit_kafka_logs()
        self._bootstrap_servers = bootstrap_servers
        self._max_pending_bytes = max_pending_bytes
        self._producer: AIOKafkaProducer | None = None
        self._broken: AIOKafkaProducer | None = None
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
            raise StoreUnavailable(f"no broker at {self._bootstrap_servers}: {error!r}") from error

    @property
    def pending(self) -> int:
        """Records handed over and not yet acknowledged."""
        return self._pending

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        """Return, for each record in order, whether the broker acknowledged it within the deadline.

        Records of one call and one partition are appended in order.
        """
        if self._pending_bytes >= self._max_pending_bytes:
            return [False] * len(records)
        deadline = time.monotonic() + timeout_s
        sent: list[asyncio.Future[Any] | None] = []
        try:
            async with asyncio.timeout(timeout_s):
                producer = await self._live()
                for record in records:
                    sent.append(await self._send(producer, record))  # noqa: PERF401 - kept when the deadline cuts in
        except TimeoutError:
            log.warning("producer.deadline", handed_over=len(sent), of=len(records))
        except KafkaError as error:
            log.warning("producer.refused", error=repr(error))
        waiting = [future for future in sent if future is not None and not future.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        return [_acknowledged(future) for future in sent] + [False] * (len(records) - len(sent))

    async def stop(self) -> None:
        """Flush what is pending, for a bounded time, and close."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer)
        await asyncio.gather(*self._closing)

    async def _send(self, producer: AIOKafkaProducer, record: Outgoing) -> asyncio.Future[Any] | None:
        try:
            future: asyncio.Future[Any] = await producer.send(
                record.topic, record.value, record.key, record.partition, headers=list(record.headers)
            )
        except MessageSizeTooLargeError as error:
            log.error("producer.oversize", topic=record.topic, error=str(error))
            return None
        except KafkaError as error:
            self._note(producer, error)
            raise
        size = len(record.value or b"")
        self._pending += 1
        self._pending_bytes += size
        future.add_done_callback(self._settled(producer, size))
        return future

    def _settled(self, producer: AIOKafkaProducer, size: int) -> Callable[[asyncio.Future[Any]], None]:
        def settle(future: asyncio.Future[Any]) -> None:
            self._pending -= 1
            self._pending_bytes -= size
            if not future.cancelled() and (error := future.exception()) is not None:
                self._note(producer, error)

        return settle

    def _note(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Mark a producer that cannot recover: after a gap in its sequence numbers every later batch fails too."""
        retriable = getattr(error, "retriable", False) or isinstance(error, KafkaTimeoutError)
        if not retriable and not isinstance(error, MessageSizeTooLargeError) and producer is self._producer:
            log.warning("producer.broken", error=repr(error))
            self._broken = producer

    async def _live(self) -> AIOKafkaProducer:
        if self._producer is not None and self._producer is not self._broken:
            return self._producer
        async with self._renewal:
            if self._producer is None or self._producer is self._broken:
                fresh = await _connect(self._bootstrap_servers)
                if self._producer is not None:
                    self._close_later(self._producer)
                self._producer = fresh
            return self._producer

    def _close_later(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(_close(producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _acknowledged(future: asyncio.Future[Any] | None) -> bool:
    return future is not None and future.done() and not future.cancelled() and future.exception() is None


async def _connect(bootstrap_servers: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=5,  # one batch for what arrives together; well below any deadline
        max_batch_size=131_072,
        compression_type="lz4",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await producer.start()
    except BaseException:  # also a deadline's cancellation: a half-started producer keeps sockets and tasks
        await _close(producer)
        raise
    return producer


async def _close(producer: AIOKafkaProducer) -> None:
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
