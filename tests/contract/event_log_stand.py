"""An event log under test, real or not, and what the tests ask of it."""

import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from libs.adapters.ports import (
    GroupOffsets,
    GroupReader,
    Outgoing,
    PartitionReader,
    Producer,
    Record,
    TopicAdmin,
    TopicPartition,
    TopicSpec,
)


@dataclass
class EventLog:
    """One broker, real or not, with everything opened on it closed at the end of the test."""

    open_producer: Callable[[], Producer]
    open_reader: Callable[[str], PartitionReader]
    open_group: Callable[[str, str], GroupReader]
    open_offsets: Callable[[str], GroupOffsets]
    admin: TopicAdmin
    closing: AsyncExitStack

    async def topic(self, partitions: int = 2, **config: str) -> str:
        """Create a topic of this test's own."""
        name = f"test-{uuid.uuid4().hex}"
        config = {"message.timestamp.type": "LogAppendTime", **{k.replace("_", "."): v for k, v in config.items()}}
        await self.admin.ensure([TopicSpec(name, partitions, config)])
        return name

    async def producer(self) -> Producer:
        producer = self.open_producer()
        await producer.start()
        self.closing.push_async_callback(producer.stop)
        return producer

    async def reader(self, offsets: dict[TopicPartition, int], group: str = "contract") -> PartitionReader:
        reader = self.open_reader(group)
        await reader.start(offsets)
        self.closing.push_async_callback(reader.stop)
        return reader

    async def group(self, group: str, topic: str) -> GroupReader:
        reader = self.open_group(group, topic)
        await reader.start()
        self.closing.push_async_callback(reader.stop)
        return reader

    async def offsets(self, group: str) -> GroupOffsets:
        offsets = self.open_offsets(group)
        await offsets.start()
        self.closing.push_async_callback(offsets.stop)
        return offsets

    async def filled(self, count: int = 20, partitions: int = 2) -> str:
        """Create a topic with ``count`` records, user after user."""
        topic = await self.topic(partitions)
        producer = await self.producer()
        assert all(await producer.append([outgoing(topic, n) for n in range(count)], timeout_s=20))
        return topic


def outgoing(topic: str, number: int) -> Outgoing:
    """One of many records of ten users."""
    return Outgoing(topic, f"user-{number % 10}".encode(), str(number).encode())


async def read(reader: PartitionReader | GroupReader, count: int) -> list[Record]:
    """Poll until ``count`` records have come."""
    found: list[Record] = []
    for _ in range(100):
        found += await reader.poll(count - len(found), timeout_ms=200)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count} records came: {found}")


async def eventually(check: Callable[[], Awaitable[bool]], rounds: int = 100) -> None:
    """Ask again until it is so; what is asked waits a little itself."""
    for _ in range(rounds):
        if await check():
            return
    raise AssertionError("it never came to be so")
