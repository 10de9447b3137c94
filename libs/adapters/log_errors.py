"""What the event log refuses, in words that both Kafka and its twin use."""

from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart


def out_of_range(tp: TopicPartition, offset: int) -> RefusedStart:
    """Return the refusal for an offset the log does not hold; never a silent jump (streaming.md §3)."""
    return RefusedStart(
        f"offset {offset} of {tp.topic}-{tp.partition} is not in the log: it fell off retention "
        "(MOARD_EVENTS_RETENTION_HOURS), or the log is another one; start again from an offset it holds"
    )


def partition_mismatch(topic: str, existing: int, wanted: int) -> RefusedStart:
    """Return the refusal for a topic that exists with another partition count."""
    return RefusedStart(
        f"topic {topic} has {existing} partitions and the settings say {wanted}; changing the count would move users "
        f"to other partitions: set MOARD_EVENTS_PARTITIONS={existing} (MOARD_CONTENTS_PARTITIONS for moard.contents), "
        "or use a fresh broker"
    )
