"""How far the learner is behind, asked of Kafka: shown here, it goes on rising when there is no learner to show it."""

import asyncio
from collections.abc import Iterable
from typing import Final

from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import PartitionReader, TopicPartition
from libs.events.topics import LEARNER_GROUP
from services.ingest.patience import patiently

_EVERY_S: Final = 5.0


class LearnerLag:
    """Follows what the learner's checkpoints committed. Reads no record and joins no group.

    Parameters
    ----------
    reader
        Of the learner's group; never polled.
    partitions
        All that the learner reads.
    """

    def __init__(self, reader: PartitionReader, partitions: Iterable[TopicPartition], metrics: IngestMetrics) -> None:
        self._reader = reader
        self._gauges = {tp: metrics.group_lag.labels(LEARNER_GROUP, *tp) for tp in partitions}

    async def run(self) -> None:
        """Ask every five seconds until cancelled; while the broker is away, the gauges keep what it said last."""
        await patiently("learner_lag.start", self.start)
        try:
            while True:
                await patiently("learner_lag.ask", self.ask)
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._reader.stop()

    async def start(self) -> None:
        """Connect. Raises ``StoreUnavailable``."""
        await self._reader.start(dict.fromkeys(self._gauges, -1))
        self._reader.pause()

    async def ask(self) -> None:
        """Show log end minus committed offset; all that is retained where nothing was committed yet.

        Raises ``StoreUnavailable``.
        """
        committed = await self._reader.committed()
        begins, ends = await self._reader.beginning_offsets(), await self._reader.end_offsets()
        for tp, gauge in self._gauges.items():
            gauge.set(max(0, ends[tp] - max(begins[tp], committed.get(tp, 0))))
