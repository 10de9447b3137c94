"""Topic names and the partition key."""

EVENTS = "moard.events"
"""Impressions and interactions, keyed by user id: one partition holds one user's story in order."""

CONTENTS = "moard.contents"
"""The catalogue, compacted, keyed by content id in decimal."""

DEAD_LETTERS = "moard.events.dlq"
"""Records of the other two that could not be used, with origin and reason in their headers."""


def user_key(user_id: str) -> bytes:
    """Return the record key of an event: the user id in UTF-8, partitioned by murmur2."""
    return user_id.encode()


def content_key(content_id: int) -> bytes:
    """Return the record key of a content."""
    return str(content_id).encode()
