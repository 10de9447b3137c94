"""What is known of a user, and what is said while a store is away or late."""

import asyncio
from collections.abc import Sequence

from libs.adapters.memory_stores import MemoryContentStore, MemoryUserHistory
from libs.adapters.ports import Visit
from services.serving.users import Existence, Users

DEADLINE_S = 0.005
VISIT = Visit("e", 7, 1_000)


class Late(MemoryUserHistory):
    """Answers long after the deadline."""

    async def recent(self, user_id: str, limit: int) -> list[Visit]:
        await asyncio.sleep(10 * DEADLINE_S)
        return await super().recent(user_id, limit)

    async def consumptions(self, content_ids: Sequence[int]) -> list[int]:
        await asyncio.sleep(10 * DEADLINE_S)
        return await super().consumptions(content_ids)

    async def seen(self, user_id: str) -> bool:
        await asyncio.sleep(10 * DEADLINE_S)
        return await super().seen(user_id)


async def users(history: MemoryUserHistory) -> Users:
    await history.append([("ann", VISIT)])
    store = MemoryContentStore()
    return Users(history, store, history_deadline_s=DEADLINE_S, sql_deadline_s=1.0, remembered=10)


async def test_a_history_that_the_store_gives_in_its_own_time_counts() -> None:
    """A request of a busy worker waits longer for its question than Redis for the answer: that is no outage."""
    late = await users(Late())
    assert await late.recent("ann") == [VISIT]
    assert await late.exists("ann") is Existence.KNOWN


async def test_what_does_not_come_in_time_is_done_without() -> None:
    late = await users(Late())
    assert await late.consumptions([7]) is None
    assert await late.exists("bob") is Existence.UNCERTAIN


async def test_a_history_that_is_away_is_not_an_empty_one() -> None:
    history = MemoryUserHistory()
    known = await users(history)
    assert await known.recent("bob") == []
    history.available = False
    assert await known.recent("ann") is None
