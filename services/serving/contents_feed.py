"""Follows ``moard.contents`` into the resident catalogue."""

import asyncio
from collections.abc import Callable

import structlog

from libs.adapters.ports import PartitionReader, TopicPartition
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.topics import CONTENTS
from services.serving.contents import Contents

log = structlog.get_logger(__name__)

_CATCHING_UP_RECORDS = 500
_LIVE_RECORDS = 50  # decoding a content takes 0.1 ms of the loop that also answers requests
_POLL_MS = 1_000
_RETRY_S = 1.0


class ContentsFeed:
    """Reads the compacted topic from its beginning, then follows it.

    A broker that is away changes nothing for what is already resident; the feed goes on when it is back.
    """

    def __init__(self, contents: Contents, reader: Callable[[], PartitionReader], partitions: int) -> None:
        self.caught_up = asyncio.Event()
        self._contents = contents
        self._make_reader = reader
        self._offsets = {TopicPartition(CONTENTS, number): -1 for number in range(partitions)}

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            reader = self._make_reader()
            try:
                await reader.start(self._offsets)
                await self._catch_up(reader)
                while True:
                    await self._contents.apply(await reader.poll(_LIVE_RECORDS, _POLL_MS))
            except (StoreUnavailable, RefusedStart) as error:
                # RefusedStart: the position is not in the log any more. Reading it all again is idempotent.
                log.warning("contents.feed_interrupted", error=str(error))
            finally:
                await reader.stop()
            await asyncio.sleep(_RETRY_S)

    async def _catch_up(self, reader: PartitionReader) -> None:
        ends = await reader.end_offsets()
        while any(reader.positions().get(tp, 0) < end for tp, end in ends.items()):
            await self._contents.apply(await reader.poll(_CATCHING_UP_RECORDS, _POLL_MS))
        if not self.caught_up.is_set():
            log.info("contents.caught_up", contents=len(self._contents))
        self.caught_up.set()
