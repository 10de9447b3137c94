"""What ``moard.contents`` says of every content, as digests: 50,000 contents shall not cost their vectors' 100 MB."""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from libs.adapters.ports import PartitionReader, Record, TopicPartition
from libs.errors import BadEvent
from libs.events.codec import decode_content
from libs.events.schema import Content
from libs.events.topics import CONTENTS, FROM_TABLE

_POLL_MS: Final = 500
_POLL_RECORDS: Final = 100  # 300 floats each: decoding 100 takes a few milliseconds of the event loop


class Digest(NamedTuple):
    """One content as it travels. Two that are equal say the same."""

    text: bytes
    vector: bytes | None
    vector_version: str


class Announced:
    """Reads the topic from its beginning and keeps the newest of each content.

    What is on the topic is learnt from the topic, so that a restart, or another ingest process, publishes nothing anew.
    """

    def __init__(self, reader: PartitionReader, partitions: int) -> None:
        self._reader = reader
        self._partitions = [TopicPartition(CONTENTS, number) for number in range(partitions)]
        self._digests: dict[int, Digest] = {}
        self.from_table: set[int] = set()
        """Contents whose newest record was read from the table, or written into it first."""

    async def start(self) -> None:
        """Begin to read."""
        await self._reader.start(dict.fromkeys(self._partitions, -1))

    async def stop(self) -> None:
        """Close the reader."""
        await self._reader.stop()

    def get(self, content_id: int) -> Digest | None:
        """Return what the topic says; None for nothing, or a tombstone."""
        return self._digests.get(content_id)

    async def catch_up(self) -> set[int]:
        """Read to the end; return the contents of which it now says something else. Raises ``StoreUnavailable``."""
        changed: set[int] = set()
        ends = await self._reader.end_offsets()
        while any(self._reader.positions().get(tp, 0) < end for tp, end in ends.items()):
            for record in await self._reader.poll(_POLL_RECORDS, _POLL_MS):
                changed |= self._learn(record)
        return changed

    def appended(self, contents: Iterable[Content]) -> None:
        """Note what this process appended, before it is read back."""
        for content in contents:
            self._digests[content.content_id] = digest(content)
            self.from_table.add(content.content_id)

    def removed(self, content_ids: Iterable[int]) -> None:
        """Note tombstones that this process appended."""
        for content_id in content_ids:
            self._digests.pop(content_id, None)
            self.from_table.discard(content_id)

    def _learn(self, record: Record) -> set[int]:
        try:
            content = decode_content(record.value) if record.value is not None else None
        except BadEvent:
            return set()  # the learner reads it too and sends it to the dead letters
        if content is None:
            return self._forget(record.key)
        content_id, said = content.content_id, digest(content)
        known, self._digests[content_id] = self._digests.get(content_id), said
        (self.from_table.add if FROM_TABLE in record.headers else self.from_table.discard)(content_id)
        return set() if known == said else {content_id}

    def _forget(self, key: bytes | None) -> set[int]:
        if key is None or not key.isdigit():
            return set()
        known = self.get(int(key))
        self.removed([int(key)])
        return set() if known is None else {int(key)}


def digest(content: Content) -> Digest:
    """Return what a record of this content would say."""
    text = repr((content.title, content.description, content.kind, content.hidden, content.published_at_ms))
    # In float32, as the table keeps it: what comes back from there equals what was published from the request.
    vector = None if content.embedding is None else _hash(array("f", content.embedding).tobytes())
    return Digest(_hash(text.encode()), vector, content.vector_version)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=12).digest()
