"""The request to forget a user, on its way into the log: whoever keeps something of users acts on it from there.

The learner forgets join state and rows, the projector the history, each where the record stands in the order of the
log, so that learning again or rebuilding from the log forgets again. What was learned stays in the weights.
"""

import time
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog

from libs.adapters.ports import Outgoing, Producer, UserHistory
from libs.errors import StoreUnavailable
from libs.events.codec import decode_event, encode
from libs.events.schema import Erasure
from libs.events.topics import EVENTS, user_key

log = structlog.get_logger(__name__)

APPEND_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Requested:
    """An erasure that the broker has: it lies in ``partition``, before the offset ``until``."""

    event_id: str
    partition: int
    until: int


class Erasures:
    """Appends erasures, and empties the history before it answers.

    Parameters
    ----------
    append_s
        Deadline of the broker's acknowledgement, seconds.
    """

    def __init__(self, producer: Producer, history: UserHistory, append_s: float = APPEND_S) -> None:
        self._producer = producer
        self._history = history
        self._append_s = append_s

    async def request(self, user_id: str) -> Requested:
        """Append an erasure; once it returned, everybody who reads the log will forget the user.

        Raises
        ------
        BadEvent
            That is no user id.
        StoreUnavailable
            The broker did not acknowledge it: ask again, twice does no harm.
        """
        now_ms = time.time_ns() // 1_000_000
        event = Erasure(event_id=uuid4().hex, user_id=user_id, timestamp_ms=now_ms)
        value = encode(event)
        decode_event(value)  # what its readers would refuse is refused here
        (place,) = await self._producer.place([Outgoing(EVENTS, user_key(user_id), value)], self._append_s)
        if place is None:
            raise StoreUnavailable("the broker did not acknowledge the erasure")
        await self._empty_history(user_id, now_ms)
        log.info("user.erasure_requested", event_id=event.event_id, partition=place.partition, until=place.until)
        return Requested(event.event_id, *place)

    async def _empty_history(self, user_id: str, now_ms: int) -> None:
        try:
            await self._history.erase(user_id, now_ms)
        except StoreUnavailable as error:
            log.warning("history.left_to_projector", error=repr(error))
