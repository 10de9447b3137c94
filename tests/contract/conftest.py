"""Each port's adapters, side by side: the in-memory twin and the real thing on the shared stack."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from libs.adapters import memory
from libs.adapters.event_log import KafkaGroupReader, KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin
from tests.contract.event_log_stand import EventLog

REAL = pytest.param("real", marks=pytest.mark.stack)


@pytest.fixture(params=["memory", REAL])
async def event_log(request: pytest.FixtureRequest) -> AsyncIterator[EventLog]:
    async with AsyncExitStack() as closing:
        if request.param == "memory":
            log = memory.MemoryLog()
            yield EventLog(
                open_producer=lambda: memory.MemoryProducer(log),
                open_reader=lambda group: memory.MemoryPartitionReader(log, group),
                open_group=lambda group, topic: memory.MemoryGroupReader(log, group, topic),
                admin=memory.MemoryTopicAdmin(log),
                closing=closing,
            )
            return
        stack: Any = request.getfixturevalue("stack")
        servers = stack.kafka_bootstrap_servers
        admin = KafkaTopicAdmin(servers)
        closing.push_async_callback(admin.close)
        yield EventLog(
            open_producer=lambda: KafkaProducer(servers),
            open_reader=lambda group: KafkaPartitionReader(servers, group),
            open_group=lambda group, topic: KafkaGroupReader(servers, group, topic),
            admin=admin,
            closing=closing,
        )
