"""How far the learner is behind, asked of Kafka: shown here, it goes on rising when there is no learner to show it."""

import asyncio
from collections.abc import Iterable
from typing import Final

from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import GroupOffsets, TopicPartition
from libs.events.topics import LEARNER_GROUP
from services.ingest.patience import patiently

_EVERY_S: Final = 5.0


class LearnerLag:
    """Follows what the learner's checkpoints committed.

    Parameters
    ----------
    offsets
        Of the learner's group.
    partitions
        All that the learner reads.
    """

    def __init__(self, offsets: GroupOffsets, partitions: Iterable[TopicPartition], metrics: IngestMetrics) -> None:
        self._offsets = offsets
        self._gauges = {tp: metrics.group_lag.labels(LEARNER_GROUP, *tp) for tp in partitions}

    async def run(self) -> None:
        """Ask every five seconds until cancelled; while the broker is away, the gauges keep what it said last."""
        await patiently("learner_lag.start", self._offsets.start)
        try:
            while True:
                await patiently("learner_lag.ask", self.ask)
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._offsets.stop()

    async def ask(self) -> None:
        """Ask once. Raises ``StoreUnavailable``."""
        for tp, records in (await self._offsets.behind(self._gauges)).items():
            self._gauges[tp].set(records)
