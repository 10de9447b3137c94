"""The catalogue in memory: fed by ``moard.contents``, and by SQL for ids that the topic has not brought yet."""

import asyncio
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence

import numpy as np
import structlog
from jaxtyping import Bool

from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import ContentStore, Outgoing, Record, StoredContent
from libs.errors import BadEvent, RefusedStart, StoreUnavailable
from libs.events.codec import decode_content, encode
from libs.events.schema import Content
from libs.events.topics import CONTENTS, FROM_TABLE, content_key
from libs.rl.action_space import PADDING, ActionSpace
from libs.text.vectors import TextVectors
from services.serving.missing_vectors import MissingVectors
from services.serving.ranking import Candidates
from services.serving.recency import Recency

log = structlog.get_logger(__name__)

# No content has a negative id. Whatever /rank is asked about and nobody knows shares this row: no vector, nothing
# learned. Without it, ids made up by callers would grow the matrix.
_STRANGER = -2

_MAX_TITLE, _MAX_DESCRIPTION = 2_000, 20_000  # the wire format's limits; the legacy columns have others


class Contents:
    """What is known of every content, as rows of one action space.

    Parameters
    ----------
    publish
        Hands a record to the background producer; False when its buffer is full.
    unknown_limit, unknown_ttl_s
        How many ids that SQL does not have are remembered, and for how many seconds.
    newest
        How many of the newest contents are kept in order.

    Notes
    -----
    Belongs to the event loop. A model that scores must ``refresh`` from ``space`` first.
    """

    def __init__(
        self,
        space: ActionSpace,
        store: ContentStore,
        publish: Callable[[Outgoing], bool],
        texts: TextVectors | None,
        metrics: ServingMetrics,
        *,
        deadline_s: float,
        unknown_limit: int,
        unknown_ttl_s: float,
        newest: int,
    ) -> None:
        self.space = space
        self.recency = Recency(space, newest)
        self._store = store
        self._publish = publish
        self._missing = None if texts is None else MissingVectors(texts)
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._known: set[int] = set()
        self._unknown = _Recently(unknown_limit, unknown_ttl_s)
        self._stranger = int(space.ensure([_STRANGER])[0])

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, content_id: int) -> bool:
        return content_id in self._known

    async def apply(self, records: Sequence[Record]) -> None:
        """Take in records of ``moard.contents``, a tombstone removing its content. What cannot be read is skipped."""
        decoded = [(record, _decoded(record)) for record in records]
        self._take([(content, record.append_ms) for record, content in decoded if content is not None])
        for record, content in decoded:
            if content is None and record.value is None and record.key is not None and record.key.isdigit():
                removed = Content(content_id=int(record.key), hidden=True)  # not unknown: SQL is not asked
                self._put(removed, None, record.append_ms)
        self._metrics.contents.set(len(self._known))

    async def resolve(self, content_ids: Iterable[int]) -> bool:
        """Read ids that are not resident from SQL, in one query; False when SQL did not answer in time.

        Vectors that have to be computed get the rest of that time; what takes longer comes after this ranking.
        """
        missing = [content_id for content_id in content_ids if content_id not in self._known]
        missing = [content_id for content_id in missing if content_id not in self._unknown] if missing else missing
        if not missing:
            return True
        try:
            async with asyncio.timeout(self._deadline_s) as deadline:
                found = await self._store.get(missing)
        except (TimeoutError, StoreUnavailable, RefusedStart) as error:  # refused: its tables are being made
            log.warning("contents.sql_unavailable", ids=len(missing), error=repr(error))
            return False
        self._unknown.add(set(missing) - {content.content_id for content in found})
        computing = self._adopt(found)
        if computing is not None:
            left_s = (deadline.when() or 0.0) - asyncio.get_running_loop().time()
            await asyncio.wait([computing], timeout=max(0.0, left_s))
        return True

    def candidates(
        self, content_ids: Iterable[int], excluded: Iterable[int] = (), known_only: bool = False
    ) -> Candidates:
        """Return what may be shown of these ids, each once, in their order: neither hidden nor excluded.

        Ids that nobody knows can be shown too, unless ``known_only``: they are ranked as a content without a vector.
        """
        wanted = dict.fromkeys(content_ids)
        for content_id in excluded:
            wanted.pop(content_id, None)
        ids, indices = np.array(list(wanted), np.int64), self.space.index(wanted)
        shown = ~self.space.hidden.take(indices)
        if known_only:
            shown &= self.recency.listed.take(indices)
        else:
            indices[indices == PADDING] = self._stranger
        return Candidates(ids, indices) if shown.all() else Candidates(ids[shown], indices[shown])

    def showable(self, left_out: Iterable[int]) -> Bool[np.ndarray, "M"]:
        """Return which contents may be proposed: those of the catalogue, neither hidden nor left out."""
        showable: np.ndarray = self.recency.listed & ~self.space.hidden
        showable[self.space.index(list(left_out))] = False  # padding, the index of unknown ones, is not listed anyway
        return showable

    def _adopt(self, found: Sequence[StoredContent]) -> asyncio.Task[None] | None:
        # What the topic brought in the meantime is newer.
        rows = [stored for stored in found if stored.content_id not in self._known]
        contents = [_of_store(stored) for stored in rows]
        broken = {stored.content_id for stored in rows if stored.embedding_broken}
        now_ms = time.time_ns() // 1_000_000
        lacking = self._put_all([(content, now_ms) for content in contents], broken)
        later = {content.content_id for content in lacking} if self._missing is not None else set()
        for content in contents:
            if content.content_id not in later:
                usable = self._given(content) is not None
                self._announce(content if usable else dataclasses.replace(content, embedding=None))
        self._metrics.contents.set(len(self._known))
        return self._missing.compute(lacking, self._completed) if self._missing is not None and lacking else None

    def _take(self, contents: Sequence[tuple[Content, int]]) -> None:
        lacking = self._put_all(contents, frozenset())
        if self._missing is not None and lacking:
            self._missing.compute(lacking, self._put_vector)

    def _put_all(self, contents: Sequence[tuple[Content, int]], broken: Container[int]) -> list[Content]:
        """Make these resident, each with the time it came; return, and count, those without a usable vector."""
        lacking: dict[int, Content] = {}
        for content, came_ms in contents:
            vector = self._given(content)
            self._put(content, vector, came_ms)
            lacking.pop(content.content_id, None)
            if vector is None:
                lacking[content.content_id] = content
                is_broken = content.embedding is not None or content.content_id in broken
                self._metrics.vectors_missing.labels("broken" if is_broken else "missing").inc()
        return list(lacking.values())

    def _put(self, content: Content, vector: np.ndarray | None, came_ms: int) -> None:
        if self._missing is not None:
            self._missing.forget(content.content_id)
        index = self.space.put(content.content_id, vector, content.hidden)
        self.recency.put(index, content.published_at_ms, came_ms)
        self._known.add(content.content_id)

    def _put_vector(self, content: Content, vector: np.ndarray) -> None:
        self.space.put(content.content_id, vector, content.hidden)

    def _completed(self, content: Content, vector: np.ndarray) -> None:
        """Make a computed vector resident, and let everybody see the content with it."""
        assert self._missing is not None  # noqa: S101 - it has just computed this
        self._put_vector(content, vector)
        values = tuple(vector.tolist())
        self._announce(dataclasses.replace(content, embedding=values, vector_version=self._missing.version))

    def _announce(self, content: Content) -> None:
        record = Outgoing(CONTENTS, content_key(content.content_id), encode(content), (FROM_TABLE,))
        if not self._publish(record):
            log.warning("contents.not_published", content_id=content.content_id)

    def _given(self, content: Content) -> np.ndarray | None:
        if content.embedding is None or len(content.embedding) != self.space.vector_size:
            return None
        with np.errstate(over="ignore"):
            vector = np.array(content.embedding, np.float32)
        return vector if np.isfinite(vector).all() else None


class _Recently:
    """A bounded set whose members are forgotten after a while."""

    def __init__(self, limit: int, ttl_s: float) -> None:
        self._limit = limit
        self._ttl_s = ttl_s
        self._until: OrderedDict[int, float] = OrderedDict()

    def __contains__(self, content_id: int) -> bool:
        return self._until.get(content_id, 0.0) > time.monotonic()

    def add(self, content_ids: Iterable[int]) -> None:
        until = time.monotonic() + self._ttl_s
        for content_id in content_ids:
            self._until.pop(content_id, None)  # to the end: the first ones are the oldest
            self._until[content_id] = until
        while len(self._until) > self._limit:
            self._until.popitem(last=False)


def _decoded(record: Record) -> Content | None:
    if record.value is None:
        return None
    try:
        return decode_content(record.value)
    except BadEvent as error:
        log.warning("contents.bad_record", partition=record.partition, offset=record.offset, error=str(error))
        return None


def _of_store(stored: StoredContent) -> Content:
    published_ms = stored.published_at_ms
    return Content(
        content_id=stored.content_id,
        title=stored.title[:_MAX_TITLE],
        description=stored.description[:_MAX_DESCRIPTION],
        embedding=stored.embedding,
        vector_version=stored.vector_version,
        kind=stored.kind[:64],
        hidden=stored.hidden,
        published_at_ms=published_ms if published_ms is not None and published_ms >= 0 else None,
    )
