"""The in-memory twins of all ports, for tests and the quickstart. Each belongs to one event loop."""

from libs.adapters.memory_log import MemoryLog, MemoryProducer, MemoryTopicAdmin
from libs.adapters.memory_models import MemoryModelStore
from libs.adapters.memory_readers import MemoryGroupOffsets, MemoryGroupReader, MemoryPartitionReader
from libs.adapters.memory_stores import (
    MemoryContentStore,
    MemoryKeyStore,
    MemorySnapshotStore,
    MemoryUserHistory,
)
from libs.adapters.memory_training import MemoryLegacyLog, MemoryTaskStore

__all__ = [
    "MemoryContentStore",
    "MemoryGroupOffsets",
    "MemoryGroupReader",
    "MemoryKeyStore",
    "MemoryLegacyLog",
    "MemoryLog",
    "MemoryModelStore",
    "MemoryPartitionReader",
    "MemoryProducer",
    "MemorySnapshotStore",
    "MemoryTaskStore",
    "MemoryTopicAdmin",
    "MemoryUserHistory",
]
