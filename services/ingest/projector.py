"""The history projector: user histories, repaired and rebuilt from the event log.

Ingest writes histories itself before it answers; the projector writes what ingest could not, and what backends
produced to Kafka directly. When the store comes back empty it replays everything the log retains.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from uuid import uuid4

import structlog

from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import GroupReader, PartitionReader, Record, TopicPartition, UserHistory
from libs.errors import BadEvent
from libs.events.codec import decode_event
from libs.events.schema import Logged
from libs.events.topics import EVENTS, HISTORY_GROUP, Origin
from services.ingest.history import remember
from services.ingest.own_writes import OwnWrites
from services.ingest.patience import patiently

log = structlog.get_logger(__name__)

_REBUILDING: Final = "rebuilding-"
_POLL_MS: Final = 1_000  # how often an idle projector looks whether the store has come back empty


class Projector:
    """Keeps the histories equal to the event log, at least once: every write is idempotent by event id.

    A rebuild reads all partitions by itself, outside the group, and sets the generation key only when it is through.
    So it matters neither how many projectors share the group nor whether one dies in the middle, and a store that is
    lost again during the rebuild gets another one.

    Parameters
    ----------
    reader
        The member of the consumer group; what it has committed is in the histories.
    replay_reader
        Makes the reader of one rebuild.
    own_writes
        What ingest, in this process, writes itself; a rebuild writes it nevertheless.
    partitions
        Of the events topic.
    max_records
        Records taken in one turn. HTTP requests wait for the decoding of one turn: a few milliseconds' worth.
    """

    def __init__(
        self,
        reader: GroupReader,
        replay_reader: Callable[[], PartitionReader],
        history: UserHistory,
        own_writes: OwnWrites,
        metrics: IngestMetrics,
        *,
        partitions: int,
        min_dwell_ms: int,
        max_records: int,
    ) -> None:
        self._reader = reader
        self._replay_reader = replay_reader
        self._history = history
        self._own_writes = own_writes
        self._metrics = metrics
        self._partitions = [TopicPartition(EVENTS, number) for number in range(partitions)]
        self._min_dwell_ms = min_dwell_ms
        self._max_records = max_records
        self._uncommitted: Counter[TopicPartition] = Counter()  # read, and perhaps not written
        self._rebalances = 0
        self._show({})

    async def run(self) -> None:
        """Follow the log until cancelled. A store that is away is waited for; anything else is raised."""
        await patiently("projector.start", self._reader.start)
        try:
            while True:
                await self.turn()
        finally:
            await self._reader.stop()

    async def turn(self) -> None:
        """Read once, write, and only then commit."""
        await patiently("projector.rebuild", self._rebuild_if_empty)
        records = await patiently("projector.poll", lambda: self._reader.poll(self._max_records, _POLL_MS))
        self._uncommitted.update(TopicPartition(record.topic, record.partition) for record in records)
        await self._write(await self._own_writes.others(records))
        if records and await self._reader.commit():  # if not taken: read and written again, which changes nothing
            self._uncommitted.clear()
        self._show(self._reader.lag())

    def _show(self, lag: Mapping[TopicPartition, int]) -> None:
        """Show what is not committed, as lag tools do; a partition that another one took over is not behind here."""
        for tp in self._partitions:
            behind = lag[tp] + self._uncommitted[tp] if tp in lag else 0
            self._metrics.lag_records.labels(*tp).set(behind)
            self._metrics.group_lag.labels(HISTORY_GROUP, *tp).set(behind)
        rebalances = self._reader.rebalances
        self._metrics.rebalances.inc(rebalances - self._rebalances)
        self._rebalances = rebalances

    async def _rebuild_if_empty(self) -> None:
        self._show(self._reader.lag())
        marker = await self._history.generation()
        if marker is not None and not marker.startswith(_REBUILDING):
            return
        if marker is None:
            marker = f"{_REBUILDING}{uuid4().hex}"
            await self._history.begin_generation(marker)
        log.info("projector.rebuild_started", marker=marker)
        visits = await self._replay()
        if await self._history.generation() == marker:
            await self._history.begin_generation(uuid4().hex)
            self._metrics.rebuilds.inc()
            log.info("projector.rebuilt", visits=visits)
        # Otherwise the store was lost once more, or another projector was faster: the next turn sees which.

    async def _replay(self) -> int:
        reader = self._replay_reader()
        await reader.start(dict.fromkeys(self._partitions, -1))
        try:
            visits = 0
            ends = await reader.end_offsets()
            while any(reader.positions().get(tp, 0) < end for tp, end in ends.items()):
                visits += await self._write(await reader.poll(self._max_records, _POLL_MS))
            return visits
        finally:
            await reader.stop()

    async def _write(self, records: Sequence[Record]) -> int:
        if not records:
            return 0
        events = list(_decoded(records))

        async def write() -> int:
            self._show(self._reader.lag())
            return await remember(self._history, events, self._min_dwell_ms)

        visits = await patiently("projector.write", write)
        self._metrics.projected.inc(visits)
        return visits


def _decoded(records: Sequence[Record]) -> Iterator[tuple[Logged, int]]:
    for record in records:
        try:
            event = decode_event(record.value, Origin(record.topic, record.partition, record.offset))
        except BadEvent:
            continue  # the learner reads the same record and sends it to the dead letters, with the reason
        yield event, record.append_ms
