"""The event log on Kafka through aiokafka (streaming.md §1); its twin is in ``libs/adapters/memory.py``."""

from libs.adapters.kafka_admin import KafkaTopicAdmin, ensure_topics, topic_specs
from libs.adapters.kafka_producer import KafkaProducer
from libs.adapters.kafka_readers import KafkaGroupOffsets, KafkaGroupReader, KafkaPartitionReader

__all__ = [
    "KafkaGroupOffsets",
    "KafkaGroupReader",
    "KafkaPartitionReader",
    "KafkaProducer",
    "KafkaTopicAdmin",
    "ensure_topics",
    "topic_specs",
]
