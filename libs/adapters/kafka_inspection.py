"""What an operator wants to know of the broker: settings as they are, and what groups have committed."""

from collections.abc import Mapping
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError

from libs.adapters.kafka_admin import KafkaTopicAdmin, ask
from libs.adapters.ports import TopicPartition
from libs.errors import StoreUnavailable


class KafkaInspector(KafkaTopicAdmin):
    """Only looks. Each answer is of the moment of asking; raises ``StoreUnavailable``."""

    async def topics(self) -> dict[str, int]:
        """Return the partition counts of all topics that are there."""
        client = await self._live()
        names = sorted(await ask(client.list_topics()))
        return await self._counts(client, names)

    async def topic_settings(self, topic: str) -> dict[str, str]:
        """Return what is in force for a topic, its own settings and the broker's defaults alike."""
        return await self._settings(ConfigResource(ConfigResourceType.TOPIC, topic))

    async def broker_settings(self) -> dict[str, str]:
        """Return what is in force for one broker."""
        cluster = await ask((await self._live()).describe_cluster())
        node = min(broker["node_id"] for broker in cluster["brokers"])
        return await self._settings(ConfigResource(ConfigResourceType.BROKER, str(node)))

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """Return the offsets a group has committed; empty when it never did."""
        client = await self._live()
        try:
            found: Mapping[Any, Any] = await ask(client.list_consumer_group_offsets(group))
        except StoreUnavailable as error:
            if isinstance(error.__cause__, GroupCoordinatorNotAvailableError):
                return {}  # a broker on which no group has committed yet
            raise
        return {TopicPartition(tp.topic, tp.partition): each.offset for tp, each in found.items() if each.offset >= 0}

    async def _settings(self, resource: ConfigResource) -> dict[str, str]:
        client = await self._live()
        answers = await ask(client.describe_configs([resource]))
        entries = [entry for answer in answers for found in answer.resources for entry in found[-1]]
        return {name: value for name, value, *_ in entries if value is not None}
