"""Batches over a producer that a test holds in its hands."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaTimeoutError, NotLeaderForPartitionError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder

from libs.adapters.kafka_batches import LINGER_S, Batches
from libs.adapters.ports import Outgoing, TopicPartition

TP, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


class HeldProducer:
    """Takes batches and acknowledges them when told."""

    def __init__(self, batch_bytes: int = 1_000) -> None:
        self.batch_bytes = batch_bytes
        self.taken: list[tuple[int, BatchBuilder, asyncio.Future[Any]]] = []
        self.free = asyncio.Event()
        self.free.set()

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.batch_bytes, 0, is_transactional=False, key_serializer=None, value_serializer=None)

    async def send_batch(self, builder: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        await self.free.wait()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.taken.append((partition, builder, future))
        return future

    def counts(self, partition: int = 0) -> list[int]:
        return [builder.record_count() for number, builder, _ in self.taken if number == partition]


def batches_of(producer: HeldProducer, ttl_s: float = 30.0, linger_s: float = LINGER_S) -> Batches:
    return Batches(producer, ttl_s, linger_s)


def record(number: int, size: int = 20) -> Outgoing:
    return Outgoing("t", b"k", str(number).zfill(size).encode())


async def test_what_arrives_together_is_one_batch_with_one_delivery() -> None:
    producer = HeldProducer()
    batches = batches_of(producer)
    deliveries = [batches.add(TP, record(number)) for number in range(3)] + [batches.add(OTHER, record(9))]
    assert len(set(deliveries)) == 2
    await batches.flush(5)
    assert (producer.counts(0), producer.counts(1)) == ([3], [1])
    for _, _, sent in producer.taken:
        sent.set_result(SimpleNamespace(offset=40))
    await asyncio.wait(deliveries, timeout=5)
    assert [delivery.result() for delivery in deliveries] == [43, 43, 43, 41]


async def test_a_batch_that_lies_nobody_remembers_where_has_no_end() -> None:
    producer = HeldProducer()
    batches = batches_of(producer)
    delivery = batches.add(TP, record(1))
    await batches.flush(5)
    producer.taken[0][2].set_result(SimpleNamespace(offset=-1))  # what aiokafka makes of DUPLICATE_SEQUENCE_NUMBER
    await asyncio.wait([delivery], timeout=5)
    assert delivery.result() == 0


async def test_full_batches_queue_in_order_and_nothing_joins_a_batch_on_its_way() -> None:
    producer = HeldProducer(batch_bytes=300)
    producer.free.clear()
    batches = batches_of(producer)
    for number in range(40):
        batches.add(TP, record(number))
    await asyncio.sleep(0.02)  # the first is on its way now, and waits
    for number in range(40, 50):
        batches.add(TP, record(number))
    producer.free.set()
    await batches.flush(5)
    assert sum(producer.counts()) == 50
    sent = b"".join(bytes(builder._build()) for _, builder, _ in producer.taken)
    places = [sent.index(str(number).zfill(20).encode()) for number in range(50)]
    assert places == sorted(places)


async def test_a_record_larger_than_a_batch_goes_alone() -> None:
    producer = HeldProducer(batch_bytes=300)
    batches = batches_of(producer)
    batches.add(TP, record(1))
    batches.add(TP, record(2, size=5_000))
    batches.add(TP, record(3))
    await batches.flush(5)
    assert producer.counts() == [1, 1, 1]


async def test_a_refused_batch_fails_alone() -> None:
    producer = HeldProducer()
    batches = batches_of(producer)
    first = batches.add(TP, record(1))
    await batches.flush(5)
    second = batches.add(TP, record(2))
    await batches.flush(5)
    producer.taken[0][2].set_exception(NotLeaderForPartitionError())
    producer.taken[1][2].set_result(SimpleNamespace(offset=40))
    await asyncio.wait([first, second], timeout=5)
    assert isinstance(first.exception(), NotLeaderForPartitionError)
    assert second.exception() is None


async def test_what_waited_too_long_is_given_up() -> None:
    producer = HeldProducer()
    producer.free.clear()
    batches = batches_of(producer, ttl_s=0.05, linger_s=0.0)
    first = batches.add(TP, record(1))
    await asyncio.sleep(0.01)
    second = batches.add(TP, record(2))
    await asyncio.sleep(0.1)
    producer.free.set()
    await asyncio.wait([second], timeout=5)
    assert isinstance(second.exception(), KafkaTimeoutError)
    assert not first.done()  # aiokafka has it, and may still deliver it
    assert producer.counts() == [1]


async def test_abandoning_fails_what_was_not_taken() -> None:
    producer = HeldProducer()
    producer.free.clear()
    batches = batches_of(producer)
    delivery = batches.add(TP, record(1))
    await batches.flush(0.02)
    await batches.abandon()
    assert isinstance(delivery.exception(), ProducerClosed)
    assert producer.taken == []
