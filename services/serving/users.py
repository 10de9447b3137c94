"""What is known of a user: the recent history, and whether there is such a user at all."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum

import structlog

from libs.adapters.ports import ContentStore, UserHistory, Visit
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.schema import MAX_HISTORY

log = structlog.get_logger(__name__)


class Existence(Enum):
    """Whether a user is known. ``UNCERTAIN``: a store that would have to be asked is away."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    UNCERTAIN = "uncertain"


class Users:
    """Asks Redis and SQL, each within its deadline, and remembers who exists.

    Parameters
    ----------
    history_deadline_s
        Of all but ``recent``, whose deadline the store keeps: it knows when it asked.
    remembered
        How many users are kept as known, so that they stay so while the database is away.
    """

    def __init__(
        self,
        history: UserHistory,
        store: ContentStore,
        *,
        history_deadline_s: float,
        sql_deadline_s: float,
        remembered: int,
    ) -> None:
        self._history = history
        self._store = store
        self._history_deadline_s = history_deadline_s
        self._sql_deadline_s = sql_deadline_s
        self._remembered = remembered
        self._known: OrderedDict[str, None] = OrderedDict()

    async def recent(self, user_id: str, limit: int = MAX_HISTORY) -> list[Visit] | None:
        """Return the newest visits, newest first, or None when Redis did not answer in time."""
        try:
            visits = await self._history.recent(user_id, limit)
        except StoreUnavailable as error:
            log.warning("users.history_unavailable", error=repr(error))
            return None
        if visits:
            self._remember(user_id)
        return visits

    async def consumptions(self, content_ids: Sequence[int]) -> list[int] | None:
        """Return how often each content was consumed, or None when Redis did not answer in time."""
        try:
            async with asyncio.timeout(self._history_deadline_s):
                return await self._history.consumptions(content_ids)
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("users.consumptions_unavailable", error=repr(error))
            return None

    async def exists(self, user_id: str) -> Existence:
        """Look for a user in what is remembered, in the events, and in the users table, in this order."""
        if user_id in self._known:
            return Existence.KNOWN
        seen, listed = await self._seen(user_id), None
        if not seen:
            listed = await self._listed(user_id)
        if seen or listed:
            self._remember(user_id)
            return Existence.KNOWN
        return Existence.UNCERTAIN if seen is None or listed is None else Existence.UNKNOWN

    async def _seen(self, user_id: str) -> bool | None:
        try:
            async with asyncio.timeout(self._history_deadline_s):
                return await self._history.seen(user_id)
        except (TimeoutError, StoreUnavailable):
            return None

    async def _listed(self, user_id: str) -> bool | None:
        try:
            async with asyncio.timeout(self._sql_deadline_s):
                return await self._store.user_exists(user_id)
        except (TimeoutError, StoreUnavailable, RefusedStart) as error:  # refused: its tables are being made
            log.warning("users.sql_unavailable", error=repr(error))
            return None

    def _remember(self, user_id: str) -> None:
        self._known.pop(user_id, None)  # to the end: the first ones have been away longest
        self._known[user_id] = None
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
