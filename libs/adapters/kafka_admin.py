"""The topic admin port on Kafka, and moard's topics."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Final, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from libs.adapters.kafka_broker import Broker, broker_of
from libs.adapters.kafka_logs import limit_kafka_logs
from libs.adapters.log_errors import partition_mismatch
from libs.adapters.ports import TopicSpec
from libs.adapters.settings import StackSettings
from libs.errors import StoreUnavailable
from libs.events.topics import CONTENTS, DEAD_LETTERS, EVENTS

AnswerT = TypeVar("AnswerT")

_REQUEST_TIMEOUT_MS: Final = 10_000
_LEADER_S: Final = 15.0  # a single broker elects the leaders of a new topic within a second
_DYNAMIC_TOPIC_CONFIG: Final = 1  # the protocol's source code for a setting of the topic itself
_HOUR_MS: Final = 3_600_000
# Compaction never touches the segment being written, and at Kafka's 1 GiB a catalogue never leaves it.
_CONTENTS_SEGMENT_BYTES: Final = 64 * 1024 * 1024


def topic_specs(settings: StackSettings) -> list[TopicSpec]:
    """Return moard's topics. All use the broker's clock, which no client can move (streaming.md §2)."""
    clock = {"message.timestamp.type": "LogAppendTime"}
    return [
        TopicSpec(
            EVENTS,
            settings.events_partitions,
            {**clock, "cleanup.policy": "delete", "retention.ms": str(settings.events_retention_hours * _HOUR_MS)},
        ),
        TopicSpec(
            CONTENTS,
            settings.contents_partitions,
            {**clock, "cleanup.policy": "compact", "segment.bytes": str(_CONTENTS_SEGMENT_BYTES)},
        ),
        TopicSpec(
            DEAD_LETTERS,
            1,  # read by people
            {**clock, "cleanup.policy": "delete", "retention.ms": str(settings.dead_letter_retention_hours * _HOUR_MS)},
        ),
    ]


class KafkaTopicAdmin:
    """Creates topics and describes the cluster; connects at the first call."""

    def __init__(self, broker: Broker | str) -> None:
        limit_kafka_logs()
        self._broker = broker_of(broker)
        self._client: AIOKafkaAdminClient | None = None

    async def ensure(self, topics: Sequence[TopicSpec]) -> None:
        """Create missing topics and bring settings of existing ones up to date; returns when all have leaders.

        Raises
        ------
        RefusedStart
            When a topic exists with another partition count.
        """
        client = await self._live()
        existing = await self._existing(client, [spec.name for spec in topics])
        for spec in topics:
            if existing.get(spec.name, spec.partitions) != spec.partitions:
                raise partition_mismatch(spec.name, existing[spec.name], spec.partitions)
        await self._create(client, [spec for spec in topics if spec.name not in existing])
        for spec in topics:
            if spec.name in existing:
                await self._configure(client, spec)

    async def partitions(self, topic: str) -> int:
        """Return the partition count; raises ``StoreUnavailable`` for an unknown topic."""
        existing = await self._existing(await self._live(), [topic])
        if topic not in existing:
            raise StoreUnavailable(f"topic {topic} does not exist")
        return existing[topic]

    async def cluster_id(self) -> str:
        """Return the broker's cluster id."""
        client = await self._live()
        return str((await ask(client.describe_cluster()))["cluster_id"])

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _live(self) -> AIOKafkaAdminClient:
        if self._client is None:
            client = AIOKafkaAdminClient(**self._broker.options(), request_timeout_ms=_REQUEST_TIMEOUT_MS)
            try:
                await ask(client.start())
            except BaseException:
                await client.close()
                raise
            self._client = client
        return self._client

    async def _existing(self, client: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
        # Asked for a topic that is not there, a broker that creates topics by itself would create it, too narrow.
        there = sorted(set(names).intersection(await ask(client.list_topics())))
        return await self._counts(client, there)

    async def _counts(self, client: AIOKafkaAdminClient, there: list[str]) -> dict[str, int]:
        described = await ask(client.describe_topics(there)) if there else []  # asked for none, it tells of all
        return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == NoError.errno}

    async def _create(self, client: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
        if not specs:
            return
        answer = await ask(
            client.create_topics(
                [
                    # -1 is the broker's default replication, which aiokafka takes only beside assignments
                    NewTopic(spec.name, spec.partitions, -1, replica_assignments={}, topic_configs=dict(spec.config))
                    for spec in specs
                ]
            )
        )
        for name, code, *message in answer.topic_errors:
            # Another service started at the same moment and was first: that is what was wanted.
            if code not in (NoError.errno, TopicAlreadyExistsError.errno):
                raise StoreUnavailable(f"topic {name} was not created: {for_code(code).__name__} {message}")
        await self._wait_for_leaders(client, specs)

    async def _wait_for_leaders(self, client: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
        deadline = time.monotonic() + _LEADER_S
        names = [spec.name for spec in specs]
        while not _led(await ask(client.describe_topics(names)), specs):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"no leaders for {', '.join(names)} after {_LEADER_S:.0f} s")
            await asyncio.sleep(0.05)

    async def _configure(self, client: AIOKafkaAdminClient, spec: TopicSpec) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, spec.name)
        (answer,) = await ask(client.describe_configs([resource]))
        own = _own_settings(answer.resources)
        if all(own.get(name) == value for name, value in spec.config.items()):
            return
        # This call replaces all settings of the topic, so those an operator made have to be among them.
        wanted = ConfigResource(ConfigResourceType.TOPIC, spec.name, {**own, **spec.config})
        for changed in await ask(client.alter_configs([wanted])):
            for code, message, *_ in changed.resources:
                if code != NoError.errno:
                    raise StoreUnavailable(f"topic {spec.name} was not configured: {for_code(code).__name__} {message}")


def _led(described: Sequence[dict[str, Any]], specs: Sequence[TopicSpec]) -> bool:
    led = {topic["topic"]: sum(part["leader"] >= 0 for part in topic["partitions"]) for topic in described}
    return all(led.get(spec.name) == spec.partitions for spec in specs)


def _own_settings(resources: Iterable[Sequence[Any]]) -> dict[str, str]:
    entries = [entry for resource in resources for entry in resource[-1]]
    return {name: value for name, value, _, source, *_ in entries if source == _DYNAMIC_TOPIC_CONFIG}


async def ask(question: Awaitable[AnswerT]) -> AnswerT:
    """Return the broker's answer; raises ``StoreUnavailable`` when there is none in time."""
    try:
        async with asyncio.timeout(2 * _REQUEST_TIMEOUT_MS / 1_000):
            return await question
    except (TimeoutError, KafkaError) as error:
        raise StoreUnavailable(f"the broker did not answer: {error!r}") from error


async def ensure_topics(settings: StackSettings) -> list[TopicSpec]:
    """Create moard's topics, or bring their settings up to date, and return what they should be; see ``ensure``."""
    specs = topic_specs(settings)
    admin = KafkaTopicAdmin(settings.kafka)
    try:
        await admin.ensure(specs)
    finally:
        await admin.close()
    return specs
