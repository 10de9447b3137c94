"""How far behind the log the learner is, and whether it still moves."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from libs.adapters.ports import PartitionReader, TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.errors import StoreUnavailable
from services.learner.intake import EventIntake

log = structlog.get_logger(__name__)

_ASK_EVERY_S: Final = 1.0
_SHOW_EVERY_MS: Final = 100
_CLOCK_SKEW_MS: Final = 1_000  # between this machine and the broker


class Stalled(RuntimeError):
    """Records wait and none arrives. Consequence: the process exits, and its supervisor starts it again."""


class LogWatch:
    """Asks the broker for the log ends each second, shows lag, and notices an outage that nothing else reports."""

    def __init__(
        self,
        reader: PartitionReader,
        intake: EventIntake,
        metrics: LearnerMetrics,
        watchdog_s: float,
        clock_ms: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._intake = intake
        self._metrics = metrics
        self._watchdog_ms = int(1000 * watchdog_s)
        self._clock_ms = clock_ms
        self._ends: dict[TopicPartition, int] = {}
        self._caught_up_ms = self._answered_ms = clock_ms()
        self._shown_ms = 0
        metrics.log_ends_age.set_function(lambda: (clock_ms() - self._answered_ms) / 1000)

    async def run(self) -> None:
        """Watch until cancelled; raises ``Stalled``."""
        while True:
            await self.ask()
            await asyncio.sleep(_ASK_EVERY_S)

    async def ask(self) -> None:
        """Ask once. While the broker does not answer, what it said last counts."""
        asked_ms = self._clock_ms() - _CLOCK_SKEW_MS
        try:
            self._ends = await self._reader.end_offsets()
        except StoreUnavailable as error:
            log.warning("log.unreachable", error=str(error))
        else:
            self._answered_ms = self._clock_ms()
            self._intake.known_idle(self._ends, asked_ms)
        if sum(self.lag().values()) <= self._intake.pending:  # all that is known to exist was read
            self._caught_up_ms = self._clock_ms()
        silent_ms = self._clock_ms() - max(self._caught_up_ms, self._intake.busy_at_ms)
        if silent_ms > self._watchdog_ms:
            raise Stalled(f"{sum(self.lag().values())} records wait and none arrived for {silent_ms / 1000:.0f} s")

    def lag(self) -> dict[TopicPartition, int]:
        """Return the records of each partition that are known to exist and were not taken in yet."""
        fetched = self._reader.lag()
        ahead = self._reader.positions()
        return {
            tp: max(self._ends.get(tp, 0), ahead.get(tp, 0) + fetched.get(tp, 0)) - position
            for tp, position in self._intake.positions().items()
        }

    def show(self) -> None:
        """Set the gauges, ten times a second at most."""
        now_ms = self._clock_ms()
        if now_ms - self._shown_ms < _SHOW_EVERY_MS:
            return
        self._shown_ms = now_ms
        positions = self._intake.positions()
        for tp, records in self.lag().items():
            labels = (tp.topic, str(tp.partition))
            behind_ms = now_ms - self._intake.waiting_since_ms(tp) if records else 0
            self._metrics.lag_records.labels(*labels).set(records)
            self._metrics.lag_seconds.labels(*labels).set(max(0, behind_ms) / 1000)
            self._metrics.log_end_offset.labels(*labels).set(positions[tp] + records)
            self._metrics.position.labels(*labels).set(positions[tp])
