"""What ingest, projector and serving rely on of user histories, held against Redis and against the twin."""

import asyncio
import itertools

import pytest

from libs.adapters.ports import UserHistory, Visit
from libs.adapters.user_history import POPULARITY_HALF_LIFE_MS


def visits(*numbers: int) -> list[tuple[str, Visit]]:
    return [("ann", Visit(f"event:{number}", 100 + number, number)) for number in numbers]


async def ids(histories: UserHistory, user_id: str = "ann", limit: int = 100) -> list[int]:
    return [visit.content_id for visit in await histories.recent(user_id, limit)]


async def test_an_unknown_user_has_no_history(histories: UserHistory) -> None:
    assert await histories.recent("nobody", 10) == []
    assert not await histories.seen("nobody")


async def test_visits_come_back_newest_first_whatever_their_order(histories: UserHistory) -> None:
    await histories.append(visits(2, 5, 1))
    await histories.append(visits(3))
    assert await histories.recent("ann", 10) == [visit for _, visit in visits(5, 3, 2, 1)]
    assert await ids(histories, limit=2) == [105, 103]
    assert await ids(histories, limit=0) == []


async def test_more_callers_than_connections_wait_for_their_turn(histories: UserHistory) -> None:
    await histories.append(visits(1))
    assert await asyncio.gather(*(ids(histories) for _ in range(300))) == [[101]] * 300


async def test_appending_twice_changes_nothing(histories: UserHistory) -> None:
    await histories.append(visits(1, 2, 2, 1))
    await histories.append(visits(1, 2))
    assert await ids(histories) == [102, 101]
    assert await histories.consumptions([101, 102, 103]) == [1, 1, 0]


async def test_the_same_content_in_two_events_counts_twice(histories: UserHistory) -> None:
    await histories.append([("ann", Visit("a", 7, 1)), ("ann", Visit("b", 7, 2)), ("bob", Visit("c", 7, 1))])
    assert await ids(histories) == [7, 7]
    assert await histories.consumptions([7]) == [3]


async def test_a_full_history_drops_its_oldest(histories: UserHistory) -> None:
    await histories.append(visits(*range(1, 9)))
    assert await ids(histories) == [108, 107, 106, 105, 104]


async def test_reading_the_whole_log_again_changes_nothing(histories: UserHistory) -> None:
    log = visits(*range(1, 9))
    for _ in range(2):
        for visit in log:
            await histories.append([visit])
    assert await ids(histories) == [108, 107, 106, 105, 104]
    assert await histories.consumptions(list(range(101, 109))) == [1] * 8


@pytest.mark.parametrize("order", list(itertools.permutations(["a", "b", "c"])))
async def test_visits_of_one_millisecond_have_one_order(histories: UserHistory, order: tuple[str, ...]) -> None:
    await histories.append([("ann", Visit(name, 1, 5)) for name in order])
    assert [visit.event_id for visit in await histories.recent("ann", 3)] == ["c", "b", "a"]


async def test_more_than_one_chunk_of_visits_arrives(histories: UserHistory) -> None:
    await histories.append([(f"user-{number}", Visit("e", number, 1)) for number in range(1_203)])
    assert await ids(histories, "user-1202") == [1202]
    assert await histories.consumptions([0, 600, 1202]) == [1, 1, 1]


async def test_users_are_seen_with_and_without_a_history(histories: UserHistory) -> None:
    await histories.mark_seen(["bob", "bob", "zoë"])
    await histories.mark_seen([])
    await histories.append(visits(1))
    assert [await histories.seen(user) for user in ("bob", "zoë", "ann", "eve")] == [True, True, True, False]
    assert await histories.recent("bob", 10) == []


async def test_nothing_to_do_is_fine(histories: UserHistory) -> None:
    await histories.append([])
    assert await histories.consumptions([]) == []


class TestPopular:
    async def test_most_consumed_first_once_per_event(self, histories: UserHistory) -> None:
        readers = [(f"user-{n}", Visit("e", content, 1)) for n, content in enumerate([7, 8, 8, 9, 8, 9])]
        for _ in range(2):
            await histories.append(readers)
        assert await histories.popular(10) == [8, 9, 7]
        assert await histories.popular(2) == [8, 9]
        assert await histories.popular(0) == []

    @pytest.mark.parametrize("start_ms", [0, 874_724_710_000, 4_102_444_800_000])  # also a backfill of 1997, and 2100
    async def test_a_visit_counts_half_for_each_half_life_since(self, histories: UserHistory, start_ms: int) -> None:
        later = start_ms + 2 * POPULARITY_HALF_LIFE_MS
        await histories.append([(f"user-{n}", Visit(f"old:{n}", 1, start_ms)) for n in range(6)])
        await histories.append([("ann", Visit("new:1", 2, later))])  # four of the old ones are worth as much
        assert await histories.popular(2) == [1, 2]
        await histories.append([("bob", Visit("new:2", 2, later))])
        assert await histories.popular(2) == [2, 1]

    async def test_contents_are_whatever_id_they_have(self, histories: UserHistory) -> None:
        await histories.append([("ann", Visit("a", 2**63 - 1, 5)), ("ann", Visit("b", 0, 6))])
        assert await histories.popular(5) == [0, 2**63 - 1]


async def test_the_generation_is_kept(histories: UserHistory) -> None:
    assert await histories.generation() is None
    await histories.begin_generation("g1")
    assert await histories.generation() == "g1"


async def test_an_erased_user_is_unknown_and_nothing_older_comes_back(histories: UserHistory) -> None:
    await histories.append([*visits(1, 2, 5), ("bob", Visit("b", 7, 1))])
    await histories.mark_seen(["ann", "bob"])
    for _ in range(2):
        await histories.erase("ann", 3)
        await histories.append(visits(1, 2, 3))
    assert await ids(histories) == [105]
    assert await ids(histories, "bob") == [7]

    await histories.erase("ann", 9)
    await histories.erase("ann", 4)  # as a rebuild reads the first one again
    await histories.append(visits(5, 9))
    assert await ids(histories) == []
    assert not await histories.seen("ann")
    assert await histories.seen("bob")

    await histories.append(visits(10))
    assert await ids(histories) == [110]
    assert await histories.seen("ann")
