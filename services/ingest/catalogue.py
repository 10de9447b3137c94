"""The catalogue follower: what the content table says, kept true on the compacted topic ``moard.contents``.

Kafka is all the learner reads, and the content table belongs to the backend: whoever writes to it writes past moard.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import structlog

from libs.adapters.ports import ContentStore, PartitionReader, Producer, Record, StoredContent, TopicPartition
from libs.errors import BadEvent, StoreUnavailable
from libs.events.codec import decode_content
from libs.events.schema import Content
from libs.events.topics import CONTENTS
from libs.text.vectors import TextVectors
from services.ingest.contents import content_of, record_of
from services.ingest.patience import patiently
from services.ingest.puts import Puts
from services.ingest.vectors import with_vector

log = structlog.get_logger(__name__)

GROUP: Final = "moard-catalogue"
_POLL_MS: Final = 500
_POLL_RECORDS: Final = 100  # 300 floats each: decoding 100 takes a few milliseconds of the event loop
_APPEND_S: Final = 10.0  # nobody waits for it


class _Published(NamedTuple):
    """What the topic says of one content, as digests: 50,000 contents shall not cost their vectors' 100 MB."""

    text: bytes
    vector: bytes | None
    vector_version: str


class CatalogueFollower:
    """Publishes rows that the topic does not have or has differently; never removes, never publishes twice.

    What is on the topic is learnt from the topic, at start and after each page, so that a restart, or another
    ingest process, publishes nothing anew.

    Parameters
    ----------
    reader
        Reads the contents topic from its beginning.
    full_interval_s
        Time between two comparisons of the whole table; passes in between look at its end alone, where new ids are.
    """

    def __init__(
        self,
        contents: ContentStore,
        reader: PartitionReader,
        producer: Producer,
        vectors: TextVectors | None,
        puts: Puts,
        *,
        partitions: int,
        page: int,
        interval_s: float,
        full_interval_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contents = contents
        self._reader = reader
        self._producer = producer
        self._vectors = vectors
        self._puts = puts
        self._partitions = [TopicPartition(CONTENTS, number) for number in range(partitions)]
        self._page = page
        self._interval_s = interval_s
        self._full_interval_s = full_interval_s
        self._clock_s = clock_s
        self._published: dict[int, _Published] = {}
        self._last_page: str | None = None
        self._full_at = 0.0

    async def run(self) -> None:
        """Follow the table until cancelled. A store that is away is waited for; anything else is raised."""
        await patiently("catalogue.start", self.start)
        try:
            while True:
                await patiently("catalogue.pass", self.turn)
                await asyncio.sleep(self._interval_s)
        finally:
            await self._reader.stop()

    async def start(self) -> None:
        """Begin to read the topic."""
        await self._reader.start(dict.fromkeys(self._partitions, -1))

    async def turn(self) -> int:
        """Compare once and return how many contents were published.

        Raises
        ------
        StoreUnavailable
            Table or broker are away. What was published before that is known again after the next reading.
        """
        full = self._clock_s() >= self._full_at
        cursor = None if full else self._last_page
        published = 0
        while True:
            self._last_page = cursor
            self._puts.begin_reading()
            rows, cursor = await self._contents.changed_since(cursor, self._page)
            await self._read_topic()  # after the table: what was announced by then is known
            published += await self._publish([row for row in rows if self._is_news(row)])
            if cursor is None:
                break
        if full:
            self._full_at = self._clock_s() + self._full_interval_s
        if published:
            log.info("catalogue.published", contents=published)
        return published

    async def _read_topic(self) -> None:
        ends = await self._reader.end_offsets()
        while any(self._reader.positions().get(tp, 0) < end for tp, end in ends.items()):
            for record in await self._reader.poll(_POLL_RECORDS, _POLL_MS):
                self._learn(record)

    def _learn(self, record: Record) -> None:
        try:
            content = decode_content(record.value) if record.value is not None else None
        except BadEvent:
            return  # the learner reads it too and sends it to the dead letters
        if content is not None:
            self._published[content.content_id] = _digest(content)
        elif record.key is not None and record.key.isdigit():
            self._published.pop(int(record.key), None)

    def _is_news(self, row: StoredContent) -> bool:
        if row.content_id < 0:
            return False  # no content on the wire
        known = self._published.get(row.content_id)
        if known is None:
            return True
        content = _digest(content_of(row))
        if content.vector is not None or known.text != content.text:
            return known != content
        # A row without a vector gets one from its text, and keeps it until there is a newer model.
        return self._vectors is not None and known.vector_version != self._vectors.version

    async def _publish(self, rows: Sequence[StoredContent]) -> int:
        found = [content_of(await self._with_vector(row)) for row in rows]
        contents = [content for content in found if content.content_id not in self._puts]
        if not contents:
            return 0
        # Nothing may wait between the line above and this one: what is put from now on is appended behind it.
        acknowledged = await self._producer.append([record_of(content) for content in contents], _APPEND_S)
        if not all(acknowledged):
            raise StoreUnavailable(f"the broker acknowledged {sum(acknowledged)} of {len(contents)} contents")
        self._published |= {content.content_id: _digest(content) for content in contents}
        return len(contents)

    async def _with_vector(self, row: StoredContent) -> StoredContent:
        if row.embedding is not None or self._vectors is None:
            return row
        return await with_vector(row, self._vectors)


def _digest(content: Content) -> _Published:
    text = repr((content.title, content.description, content.kind, content.hidden, content.published_at_ms))
    # In float32, as the table keeps it: what comes back from there equals what was published from the request.
    vector = None if content.embedding is None else _hash(array("f", content.embedding).tobytes())
    return _Published(_hash(text.encode()), vector, content.vector_version)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=12).digest()
