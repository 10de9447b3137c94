"""The catalogue follower: what the content table says, kept true on the compacted topic ``moard.contents``.

Kafka is all the learner reads, and the content table belongs to the backend: whoever writes to it writes past moard.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import structlog

from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import ContentStore, Outgoing, Producer, StoredContent
from libs.errors import StoreUnavailable
from libs.events.topics import CONTENTS, content_key
from libs.text.vectors import TextVectors
from services.ingest.announced import Announced, digest
from services.ingest.contents import content_of, record_of
from services.ingest.patience import patiently
from services.ingest.puts import Puts
from services.ingest.table_watch import Changes, TableWatch
from services.ingest.vectors import with_vector

log = structlog.get_logger(__name__)

GROUP: Final = "moard-catalogue"
_APPEND_S: Final = 10.0  # nobody waits for it
_FEW: Final = 100  # contents that may always go, however small the catalogue is


class CatalogueFollower:
    """Publishes rows that the topic does not have or has differently, and removes what is gone from the table.

    Each turn looks for new rows, then compares as much of the table as can be done in an interval: the database is
    asked for at most half of the time, and a table that takes longer is compared over several turns.

    Parameters
    ----------
    page
        Rows read, and records appended, at a time.
    compared_page
        Rows whose fingerprints are read at a time.
    interval_s
        Pause between two turns.
    removal_share
        A sweep that would remove more of the catalogue than this removes nothing: it may be the wrong database.
    """

    def __init__(
        self,
        contents: ContentStore,
        announced: Announced,
        producer: Producer,
        vectors: TextVectors | None,
        puts: Puts,
        metrics: IngestMetrics,
        *,
        page: int,
        compared_page: int,
        interval_s: float,
        removal_share: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contents = contents
        self._announced = announced
        self._producer = producer
        self._vectors = vectors
        self._puts = puts
        self._metrics = metrics
        self._watch = TableWatch(contents, compared_page)
        self._page = page
        self._interval_s = interval_s
        self._removal_share = removal_share
        self._clock_s = clock_s
        self._held = 0

    async def run(self) -> None:
        """Follow the table until cancelled. A store that is away is waited for; anything else is raised."""
        await patiently("catalogue.start", self.start)
        try:
            while True:
                await patiently("catalogue.pass", self.turn)
                await asyncio.sleep(self._interval_s)
        finally:
            await self._announced.stop()

    async def start(self) -> None:
        """Begin to read the topic."""
        await self._announced.start()

    async def turn(self) -> int:
        """Compare once, for an interval at most, and return how many contents were published or removed.

        Raises
        ------
        StoreUnavailable
            Table or broker are away. What was published before that is known again after the next reading.
        """
        await self._read_topic()
        changes = await self._bring(await self._watch.new())
        spent_s, last = 0.0, False
        while not last and spent_s < self._interval_s:
            began_s = self._clock_s()
            differing, last = await self._watch.next_page()
            spent_s += self._clock_s() - began_s
            changes += await self._bring(differing)
        if last:
            changes += await self._take_away(self._watch.end_sweep(self._announced.from_table))
        if changes:
            log.info("catalogue.published", contents=changes)
        return changes

    async def _read_topic(self) -> None:
        # What somebody else announced may be older than the row: it is compared again.
        self._watch.unsettle(await self._announced.catch_up())

    async def _bring(self, differing: Changes) -> int:
        published = 0
        for ids in _chunks(differing, self._page):
            self._puts.begin_reading()
            rows = await self._contents.get(ids)
            await self._read_topic()  # after the table: what was announced by then is known
            news = [row for row in rows if self._is_news(row)]
            published += await self._publish(sorted(news, key=lambda row: row.content_id))
            # One that is being put is looked at again: should its announcement fail, nobody else would make up for it.
            self._watch.settle({id_: differing[id_] for id_ in ids if id_ not in self._puts})
        return published

    def _is_news(self, row: StoredContent) -> bool:
        if row.content_id < 0:
            return False  # no content on the wire
        known = self._announced.get(row.content_id)
        if known is None:
            return True
        said = digest(content_of(row))
        if not self._lacks_vector(row):
            return known != said
        if known.text != said.text or (known.vector is not None and not known.vector_version):
            return True  # the second: it came with a vector, and has lost it
        # A row without a vector gets one from its text, and keeps it until there is a newer model.
        return self._vectors is not None and known.vector_version != self._vectors.version

    def _lacks_vector(self, row: StoredContent) -> bool:
        """Return whether it has none, or one that another model than the loaded one made."""
        return row.embedding is None or (
            self._vectors is not None and row.vector_version not in ("", self._vectors.version)
        )

    async def _publish(self, rows: Sequence[StoredContent]) -> int:
        found = [content_of(await self._with_vector(row)) for row in rows]
        contents = [content for content in found if content.content_id not in self._puts]
        if contents:
            # Nothing may wait between the line above and this one: what is put from now on is appended behind it.
            await self._append([record_of(content) for content in contents])
            self._announced.appended(contents)
            self._metrics.catalogue.labels("published").inc(len(contents))
        return len(contents)

    async def _with_vector(self, row: StoredContent) -> StoredContent:
        if row.embedding is None:
            self._metrics.vectors_missing.labels("broken" if row.embedding_broken else "missing").inc()
        if self._vectors is None or not self._lacks_vector(row):
            return row
        return await with_vector(row, self._vectors)

    async def _take_away(self, missing: set[int]) -> int:
        catalogue = len(self._announced.from_table) or 1
        suspicious = len(missing) > max(_FEW, self._removal_share * catalogue)
        self._hold(len(missing) if suspicious else 0)
        return 0 if suspicious else sum([await self._remove(ids) for ids in _chunks(missing, self._page)])

    async def _remove(self, ids: list[int]) -> int:
        """Remove these from the topic, if they are there and the table really does not have them."""
        self._puts.begin_reading()
        alive = {row.content_id for row in await self._contents.get(ids)}
        await self._read_topic()
        self._watch.unsettle(ids)
        gone = [
            id_ for id_ in ids if id_ not in alive and id_ not in self._puts and self._announced.get(id_) is not None
        ]
        if gone:
            await self._append([Outgoing(CONTENTS, content_key(id_), None) for id_ in gone])
            self._announced.removed(gone)
            self._metrics.catalogue.labels("removed").inc(len(gone))
        return len(gone)

    async def _append(self, records: list[Outgoing]) -> None:
        acknowledged = await self._producer.append(records, _APPEND_S)
        if not all(acknowledged):
            raise StoreUnavailable(f"the broker acknowledged {sum(acknowledged)} of {len(records)} contents")

    def _hold(self, contents: int) -> None:
        if contents and not self._held:
            log.error(
                "catalogue.removals_held",
                contents=contents,
                remedy="check DATABASE_URL; if they are gone on purpose, raise MOARD_CATALOGUE_REMOVAL_SHARE",
            )
        self._held = contents
        self._metrics.removals_held.set(contents)


def _chunks(ids: Iterable[int], size: int) -> Iterator[list[int]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, size)):
        yield chunk
