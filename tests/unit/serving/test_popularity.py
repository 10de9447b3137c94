"""The popular list, and Redis away."""

import asyncio

from libs.adapters.memory import MemoryUserHistory
from libs.adapters.ports import Visit
from libs.rl.action_space import ActionSpace
from services.serving.popularity import Popularity
from tests.unit.serving.world import until


async def clicked(history: MemoryUserHistory, *content_ids: int) -> None:
    await history.append([(f"user-{at}", Visit(f"{id(content_ids)}-{at}", i, 1)) for at, i in enumerate(content_ids)])


def popularity(history: MemoryUserHistory, refresh_s: float = 0.001) -> Popularity:
    return Popularity(history, kept=2, refresh_s=refresh_s, deadline_s=1.0)


async def test_it_follows_what_is_consumed_and_keeps_the_last_list_without_redis() -> None:
    history = MemoryUserHistory()
    popular = popularity(history)
    await clicked(history, 1, 2, 2, 3, 3, 3)
    task = asyncio.create_task(popular.run())
    await until(lambda: popular.top == [3, 2])
    history.available = False
    await popular.refresh()
    assert popular.top == [3, 2]
    history.available = True
    await clicked(history, 1, 1, 1, 1)
    await until(lambda: popular.top == [1, 3])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_slow_redis_is_not_waited_for() -> None:
    class Stuck(MemoryUserHistory):
        async def popular(self, limit: int) -> list[int]:
            await until(lambda: False, 60)
            return []

    stuck = Popularity(Stuck(), kept=2, refresh_s=1.0, deadline_s=0.005)
    await stuck.refresh()
    assert list(stuck.top) == []


async def test_indices_follow_the_list_and_the_catalogue() -> None:
    history, space = MemoryUserHistory(), ActionSpace(2)
    popular = popularity(history)
    await clicked(history, 7, 7, 8)
    await popular.refresh()
    space.put(8, None)
    assert popular.indices(space).tolist() == [0, 1]
    space.put(7, None)
    assert popular.indices(space).tolist() == [2, 1]
    await clicked(history, 8, 8)
    await popular.refresh()
    assert popular.indices(space).tolist() == [1, 2]
