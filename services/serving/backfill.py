"""Streams the legacy tables to the event log, a page at a time, and says where the log then holds what."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from libs.adapters.ports import Outgoing, Place, Producer
from libs.adapters.training_ports import Cursor, LegacyLog
from libs.errors import StoreUnavailable
from libs.events.codec import encode
from libs.events.schema import Event, Interaction
from libs.events.topics import EVENTS, user_key
from services.serving.backfill_events import events_of, interaction_of

log = structlog.get_logger(__name__)

PAGE: Final = 100  # recommendations read at once: each page asks five questions
_LOGS_PAGE: Final = 200
_APPEND_S: Final = 4.0
_TRIES: Final = 3
_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """One page: the cursor after it, and for each partition the offset behind its records and their interactions.

    ``rows`` are recommendations, or late logs.
    """

    cursor: Cursor
    marks: dict[int, tuple[int, int]]
    rows: int


class Backfill:
    """The legacy tables as a source of events.

    Notes
    -----
    First come logs that arrived for recommendations streamed earlier, then the next recommendations, each with its
    logs. Whoever writes the cursor down after a page was acknowledged streams every row, and repeats at most one page
    after a crash; the learner drops what is repeated by its event id.
    """

    def __init__(self, legacy: LegacyLog, producer: Producer, *, settle_s: float) -> None:
        self._legacy = legacy
        self._producer = producer
        self._settle_s = settle_s

    async def bound(self, after: Cursor, recommendations: int | None) -> Cursor:
        """Return up to where to stream what there is now.

        Ids are given out before rows are committed: an insertion that has a lower id than the newest row is given a
        moment to finish.
        """
        until = await self._legacy.bound(after, recommendations)
        if until != after:
            await asyncio.sleep(self._settle_s)
        return until

    async def count(self, after: Cursor, until: Cursor) -> int:
        """Return the interactions that streaming between two cursors appends."""
        return await self._legacy.count(after, until)

    async def page(self, at: Cursor, until: Cursor, size: int) -> Streamed:
        """Append the next page, of at most ``size`` recommendations.

        Raises
        ------
        StoreUnavailable
            The tables or the broker did not answer; what the broker has already will be repeated.
        """
        if at.log_id < until.log_id:
            page = await self._legacy.late_logs(at.log_id, until.log_id, at.recommendation_id, _LOGS_PAGE)
            cursor, rows = Cursor(at.recommendation_id, page.last_id), len(page.rows)
            records = _encoded(interaction_of(row, row.recommendation_id is not None) for row in page.rows)
        else:
            found = await self._legacy.recommendations(
                at.recommendation_id, until.recommendation_id, at.log_id, min(size, PAGE)
            )
            cursor = Cursor(found[-1].recommendation_id if found else until.recommendation_id, at.log_id)
            records = _encoded(event for recommendation in found for event in events_of(recommendation))
            rows = len(found)
        return Streamed(cursor, await self._append(records), rows)

    async def _append(self, records: Sequence[tuple[Outgoing, bool]]) -> dict[int, tuple[int, int]]:
        marks: dict[int, tuple[int, int]] = {}
        waiting = list(records)
        for attempt in range(_TRIES):
            if not waiting:
                break
            if attempt:
                log.warning("backfill.not_acknowledged", records=len(waiting))
                await asyncio.sleep(_RETRY_S)
            places = await self._producer.place([outgoing for outgoing, _ in waiting], _APPEND_S)
            _mark(marks, zip(places, (counts for _, counts in waiting), strict=True))
            waiting = [record for record, place in zip(waiting, places, strict=True) if place is None]
        if waiting:
            raise StoreUnavailable(f"the broker did not acknowledge {len(waiting)} of {len(records)} events")
        return marks


def _mark(marks: dict[int, tuple[int, int]], placed: Iterable[tuple[Place | None, bool]]) -> None:
    for place, is_interaction in placed:
        if place is not None:
            until, interactions = marks.get(place.partition, (0, 0))
            marks[place.partition] = (max(until, place.until), interactions + is_interaction)


def _encoded(events: Iterable[Event]) -> list[tuple[Outgoing, bool]]:
    """Return records, each with whether it is an interaction."""
    return [
        (Outgoing(EVENTS, user_key(event.user_id), encode(event)), isinstance(event, Interaction)) for event in events
    ]
