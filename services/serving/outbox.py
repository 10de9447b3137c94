"""Records that no request waits for: a bounded buffer and the task that hands them to the broker."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator

import structlog

from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import Outgoing, Producer
from libs.errors import StoreUnavailable
from libs.events.topics import EVENTS

log = structlog.get_logger(__name__)

_BATCH = 500
_RETRY_S = 1.0
_PROMPT_S = 1.0  # a broker that is there answers in milliseconds


class Outbox:
    """Appends impressions and contents in the background, in the order they came.

    An impression that the broker does not take within the deadline is lost and counted: whoever was shown that slate
    does not wait for it, and an old one only joins late. Contents are tried again until they are there.
    """

    def __init__(self, producer: Producer, metrics: ServingMetrics, capacity: int, deadline_s: float) -> None:
        self._producer = producer
        self._metrics = metrics
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._waiting: deque[Outgoing] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._sending = 0
        self._refused = False
        self._asked_s: float | None = None  # since when the broker is to answer
        metrics.impressions_pending.set_function(self.__len__)

    def __len__(self) -> int:
        """Return the number of records not yet acknowledged."""
        return len(self._waiting) + self._sending

    @property
    def unanswered(self) -> bool:
        """Whether the broker does not answer: what is offered now waits, and may be lost in the end."""
        waits_s = 0.0 if self._asked_s is None else time.monotonic() - self._asked_s
        return self._refused or waits_s > _PROMPT_S

    def offer(self, record: Outgoing) -> bool:
        """Take a record, or return False (and count a lost impression) when the buffer is full."""
        if len(self) >= self._capacity or self._closing:
            self._lose([record])
            return False
        self._waiting.append(record)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Send until ``close``, and then until nothing is left."""
        await self._start()
        while self._waiting or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._send_batch()
            if self._closing:
                return

    def close(self) -> None:
        """Let ``run`` return once everything is sent; offers are refused from now on."""
        self._closing = True
        self._wake.set()

    async def stop(self) -> None:
        """Count what was not sent as lost and close the producer. To be called when ``run`` is over."""
        self._lose(list(self._waiting))
        self._waiting.clear()
        await self._producer.stop()

    async def _start(self) -> None:
        while True:
            try:
                with self._asking():
                    await self._producer.start()
            except StoreUnavailable as error:
                self._refused = True
                log.warning("outbox.no_broker", error=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                self._refused = False
                return

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        self._asked_s = time.monotonic()
        try:
            yield
        finally:
            self._asked_s = None

    async def _send_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        self._sending = len(batch)
        try:
            with self._asking():
                taken = await self._producer.append(batch, self._deadline_s)
        except asyncio.CancelledError:
            self._lose(batch)  # the drain's time is up; some of these may still arrive
            raise
        finally:
            self._sending = 0
        refused = [record for record, ok in zip(batch, taken, strict=True) if not ok]
        self._refused = bool(refused)
        self._metrics.impressions.inc(_impressions(batch) - _impressions(refused))
        if refused:
            log.warning("outbox.not_acknowledged", records=len(refused))
            self._lose(refused)
            self._waiting.extend(record for record in refused if record.topic != EVENTS)
            await asyncio.sleep(_RETRY_S)

    def _lose(self, records: list[Outgoing]) -> None:
        self._metrics.impressions_dropped.inc(_impressions(records))


def _impressions(records: list[Outgoing]) -> int:
    return sum(record.topic == EVENTS for record in records)
