"""Topic names, the partition key, and which partition a key belongs to."""

from struct import unpack_from
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

EVENTS = "moard.events"
"""Impressions and interactions, keyed by user id: one partition holds one user's story in order."""

CONTENTS = "moard.contents"
"""The catalogue, compacted, keyed by content id in decimal."""

FROM_TABLE = ("moard-source", b"table")
"""Header of a content that SQL has too. Should its row go, the catalogue follower removes it; contents that a backend
produces itself come without the header, and stay."""

DEAD_LETTERS = "moard.events.dlq"
"""Records of the other two that could not be used, with origin and reason in their headers."""

LEARNER_GROUP = "moard-learner"
"""The consumer group under which the learner commits what its last checkpoint contains. It has no members."""

HISTORY_GROUP = "moard-history"
"""The consumer group whose members write user histories."""


class Origin(NamedTuple):
    """Where a record was first appended; nothing else in the cluster has the same."""

    topic: str
    partition: int
    offset: int


def user_key(user_id: str) -> bytes:
    """Return the record key of an event: the user id in UTF-8, partitioned by murmur2."""
    return user_id.encode()


def content_key(content_id: int) -> bytes:
    """Return the record key of a content."""
    return str(content_id).encode()


def event_id_of(origin: Origin) -> str:
    """Return the id of an event that was produced without one: the same whenever that record is read.

    >>> event_id_of(Origin("moard.events", 3, 42))
    '192161ec-0349-597c-9a13-e2846da80cb5'
    """
    return str(uuid5(NAMESPACE_OID, f"{origin.topic}/{origin.partition}/{origin.offset}"))


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that the Java client's and aiokafka's default partitioner choose for this key.

    >>> partition_of(b"user-1", 4)
    0
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    length = len(data)
    words = length >> 2
    h = 0x9747B28C ^ length  # the seed of org.apache.kafka.common.utils.Utils.murmur2
    for k in unpack_from(f"<{words}I", data):
        k = (k * 0x5BD1E995) & 0xFFFFFFFF
        k = ((k ^ (k >> 24)) * 0x5BD1E995) & 0xFFFFFFFF
        h = ((h * 0x5BD1E995) & 0xFFFFFFFF) ^ k
    if tail := data[words << 2 :]:
        h = ((h ^ int.from_bytes(tail, "little")) * 0x5BD1E995) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0x5BD1E995) & 0xFFFFFFFF
    return h ^ (h >> 15)
