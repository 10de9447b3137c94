"""What events add to user histories, and the best-effort write that ingest makes before it answers."""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog

from libs.adapters.metrics import IngestMetrics
from libs.adapters.ports import UserHistory, Visit
from libs.errors import StoreUnavailable
from libs.events.event_time import event_time_ms
from libs.events.schema import Erasure, Event, Interaction, Logged
from libs.rl.rewards import moves_history

log = structlog.get_logger(__name__)

_REST_S = 1.0  # of an unreachable store: one late answer a second, instead of every answer late


async def remember(history: UserHistory, events: Iterable[tuple[Logged, int]], min_dwell_ms: int) -> int:
    """Write what moves histories, mark all users as seen, and return the number of visits written.

    Idempotent by event id: ingest, the projector and a client's retry may all write the same event. After an erasure
    the store takes none of that user's older visits, whoever writes them and when, so a rebuild brings nothing back.

    Parameters
    ----------
    events
        Events, each with its append time in epoch milliseconds.

    Raises
    ------
    StoreUnavailable
        Some may be written and some not; write all of them again.
    """
    visits: list[tuple[str, Visit]] = []
    others: set[str] = set()
    for event, append_ms in events:
        if isinstance(event, Erasure):
            await history.erase(event.user_id, append_ms)  # for good: what is written afterwards may be older
            others.discard(event.user_id)
            continue
        visit = _visit(event, append_ms, min_dwell_ms)
        if visit is None:
            others.add(event.user_id)
        else:
            visits.append((event.user_id, visit))
    if visits:
        await history.append(visits)
    if unmarked := others.difference(user_id for user_id, _ in visits):
        await history.mark_seen(list(unmarked))
    return len(visits)


def _visit(event: Event, append_ms: int, min_dwell_ms: int) -> Visit | None:
    if not isinstance(event, Interaction) or event.content_id is None:
        return None
    if not moves_history(event.kind, event.dwell_ms, min_dwell_ms):
        return None
    happened_ms, _ = event_time_ms(event.timestamp_ms, event.source, append_ms)
    return Visit(event.event_id, event.content_id, happened_ms)


class PromptHistory:
    """Writes histories before the 202, so that the very next ranking knows the click.

    It never fails and never takes longer than the deadline: what it could not write is counted, and the projector
    writes it from the event log.
    """

    def __init__(
        self,
        history: UserHistory,
        metrics: IngestMetrics,
        min_dwell_ms: int,
        timeout_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history = history
        self._metrics = metrics
        self._min_dwell_ms = min_dwell_ms
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._rests_until = 0.0

    async def write(self, events: Iterable[Event]) -> bool:
        """Return whether the histories now contain these acknowledged events."""
        if self._clock_s() < self._rests_until:
            self._metrics.history_errors.inc()
            return False
        # The broker has just appended them, and did not say when: this clock is milliseconds after its clock.
        now_ms = time.time_ns() // 1_000_000
        try:
            async with asyncio.timeout(self._timeout_s):
                await remember(self._history, ((event, now_ms) for event in events), self._min_dwell_ms)
        except (StoreUnavailable, TimeoutError) as error:
            self._rests_until = self._clock_s() + _REST_S
            self._metrics.history_errors.inc()
            log.warning("history.left_to_projector", error=repr(error))
            return False
        return True
