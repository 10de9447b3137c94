"""Batches for one producer, built here because aiokafka's way costs a future and a coroutine for each record.

Measured for records of 200 bytes: 27 µs of processor time a record through ``send``, 5 µs this way.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerClosed

from libs.adapters.ports import Outgoing, TopicPartition

LINGER_S: Final = 0.005
"""How long a batch waits for more: one for what arrives together, well below any deadline."""

Delivery = asyncio.Future[int]
"""The offset after a batch, once the broker has acknowledged it; its exception says why it never will.

0 when the broker has the batch and does not say where: it was sent again, and is not among the last it remembers.
"""


@dataclass(slots=True)
class _Batch:
    builder: Any  # aiokafka's BatchBuilder
    since_s: float
    delivery: Delivery = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    """One open batch for each partition, and those that wait for aiokafka to take them, in order.

    Parameters
    ----------
    ttl_s
        A batch that waited longer is given up before it is sent. What aiokafka has taken has a limit of its own.
    linger_s
        How long a batch waits for more.
    """

    def __init__(self, producer: AIOKafkaProducer, ttl_s: float, linger_s: float = LINGER_S) -> None:
        self.producer = producer
        self._ttl_s = ttl_s
        self._linger_s = linger_s
        self._lanes: dict[TopicPartition, deque[_Batch]] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._partitions: dict[str, int] = {}

    async def partitions(self, topic: str) -> int:
        """Return the partition count; raises ``KafkaError`` for an unknown topic, or when nobody answers."""
        if topic not in self._partitions:
            self._partitions[topic] = len(await self.producer.partitions_for(topic))
        return self._partitions[topic]

    def add(self, tp: TopicPartition, record: Outgoing) -> Delivery:
        """Put a record behind those added before, and return its batch's delivery. Never waits."""
        lane = self._lanes.setdefault(tp, deque())
        if not lane or not _append(lane[-1], record):
            lane.append(_Batch(self.producer.create_batch(), asyncio.get_running_loop().time()))
            _append(lane[-1], record)  # an empty batch takes any record
            if tp not in self._tasks:
                self._tasks[tp] = asyncio.create_task(self._send(tp, lane))
        return lane[-1].delivery

    async def flush(self, timeout_s: float) -> None:
        """Return when aiokafka has taken everything, or after the timeout."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)

    async def abandon(self) -> None:
        """Give up what aiokafka has not taken."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            while lane:
                _fail(lane.popleft().delivery, ProducerClosed())

    async def _send(self, tp: TopicPartition, lane: deque[_Batch]) -> None:
        """Hand a partition's batches over until there are none."""
        loop = asyncio.get_running_loop()
        try:
            while lane:
                batch = lane[0]
                if len(lane) == 1:  # nothing behind it, so there is room in it
                    await asyncio.sleep(batch.since_s + self._linger_s - loop.time())
                batch.builder.close()
                if loop.time() - batch.since_s > self._ttl_s:
                    _fail(batch.delivery, KafkaTimeoutError("waited too long to be sent"))
                else:
                    await self._hand_over(tp, batch)
                lane.popleft()
        finally:
            del self._tasks[tp]

    async def _hand_over(self, tp: TopicPartition, batch: _Batch) -> None:
        try:
            sent = await self.producer.send_batch(batch.builder, tp.topic, partition=tp.partition)
        except KafkaError as error:
            _fail(batch.delivery, error)
        else:
            sent.add_done_callback(lambda sent: _settle(batch, sent))


def _append(batch: _Batch, record: Outgoing) -> bool:
    headers: Sequence[tuple[str, bytes]] = list(record.headers)
    return batch.builder.append(timestamp=None, key=record.key, value=record.value, headers=headers) is not None


def _settle(batch: _Batch, sent: asyncio.Future[Any]) -> None:
    error = ProducerClosed() if sent.cancelled() else sent.exception()
    if error is not None:
        _fail(batch.delivery, error)
    elif not batch.delivery.done():
        first = sent.result().offset
        batch.delivery.set_result(0 if first < 0 else first + batch.builder.record_count())


def _fail(delivery: Delivery, error: BaseException) -> None:
    if not delivery.done():
        delivery.set_exception(error)
