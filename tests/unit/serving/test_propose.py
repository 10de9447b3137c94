"""POST /api/v1/rank without candidates: moard proposes them."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from libs.adapters.ports import Outgoing, Visit
from libs.events.schema import Content
from libs.events.topics import CONTENTS, content_key
from libs.rl.slates import Exploration, log_probabilities
from services.serving import proposer
from services.serving.proposals import nearest
from tests.unit.serving.world import VECTOR, World, WorldFactory, until, vector

ONLY_NEAREST = {
    "serving_propose_popular": 0.0,
    "serving_propose_new": 0.0,
    "serving_propose_random": 0.0,
}


async def rank(w: World, **body: Any) -> Any:
    answer = await w.client.post("/api/v1/rank", json={"user_id": "ann", "size": 2} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def proposed(w: World, count: int = 1, **body: Any) -> set[int]:
    """Rank once and return what the impression says was chosen from; ``count`` impressions are out by then."""
    await rank(w, **body)
    return set((await w.impressions(count))[-1].candidates)


def basis(axis: int, lean: float = 0.0) -> tuple[float, ...]:
    row = np.zeros(VECTOR)
    row[axis], row[(axis + 1) % VECTOR] = 1.0, lean
    return tuple(row.tolist())


async def clicked(w: World, *content_ids: int) -> None:
    """Have others click, and wait until that is popular."""
    events = [(f"user-{at}", Visit(f"e{at}", content, 1)) for at, content in enumerate(content_ids)]
    await w.history.append(events)
    await until(lambda: set(content_ids) <= set(w.serving.popularity.top))


async def test_near_popular_and_new_contents_are_ranked_and_logged_like_given_ones(world: WorldFactory) -> None:
    shares = {"serving_propose_random": 0.0, "serving_propose_count": 4, "serving_popular_refresh_ms": 1}
    async with world(**shares) as w:
        near = [Content(content_id=i, embedding=basis(0, 0.1 * i), published_at_ms=i) for i in range(1, 5)]
        far = [Content(content_id=i, embedding=basis(4), published_at_ms=5) for i in range(10, 15)]
        await w.put(*near, *far, Content(content_id=20, published_at_ms=100), Content(content_id=21))
        await w.publish(content_ids=(1, 2, 3))
        await clicked(w, 12, 12, 13)
        await w.history.append([("ann", Visit("e", 1, 1_000))])
        found = await rank(w)
        (logged,) = await w.impressions(1)
    # Contents without a publication date are as old as they are here, so 21 is the newest.
    assert set(logged.candidates) == {2, 3, 12, 21}
    assert set(logged.slate) <= set(logged.candidates)
    assert (found["policy"], found["degraded"]) == ("value", [])
    positions = np.array([logged.candidates.index(content) for content in logged.slate])
    again = log_probabilities(np.array(logged.scores, np.float32), positions, Exploration(0.25, 0.02))
    assert again == pytest.approx(logged.log_propensities, abs=1e-6)


async def test_an_explicit_null_proposes_too(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1))
        assert await proposed(w, candidates=None) == {1}


async def test_somebody_without_history_gets_all_there_is_when_it_is_little(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in range(1, 31)))
        assert await proposed(w, user_id="new") == set(range(1, 31))
        sources = {name: w.metric("moard_serving_proposed_total", source=name) for name in ("nearest", "popular")}
        assert sources == {"nearest": 0, "popular": 0}


async def test_contents_of_the_history_are_left_out_also_those_beyond_the_state(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in range(1, 61)))
        await w.history.append([("ann", Visit(f"e{i}", i, i)) for i in range(1, 51)])
        assert await proposed(w) == set(range(51, 61))
        (logged,) = await w.impressions(1)
        assert len(logged.history) == 30


async def test_unless_that_is_allowed(world: WorldFactory) -> None:
    async with world(serving_propose_seen=True) as w:
        await w.put(Content(content_id=1), Content(content_id=2))
        await w.history.append([("ann", Visit("e", 1, 1))])
        assert await proposed(w) == {1, 2}


async def test_excluded_and_hidden_contents_are_gone_at_once(world: WorldFactory) -> None:
    async with world(serving_popular_refresh_ms=1) as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in range(1, 9)))
        await clicked(w, 1, 2, 3)
        assert await proposed(w, exclude_ids=[1, 8, 99]) == {2, 3, 4, 5, 6, 7}
        await w.put(Content(content_id=2, hidden=True, embedding=vector(2)))
        assert await proposed(w, 2) == {1, 3, 4, 5, 6, 7, 8}
        w.log.append(Outgoing(CONTENTS, content_key(3), None))
        await until(lambda: w.serving.contents.space.hidden[w.serving.contents.space.index([3])[0]])
        assert await proposed(w, 3) == {1, 4, 5, 6, 7, 8}


async def test_a_new_content_is_proposed_at_once(world: WorldFactory) -> None:
    async with world(serving_propose_count=2, serving_propose_random=0.0) as w:
        await w.put(*(Content(content_id=i) for i in range(1, 9)))
        await w.put(Content(content_id=77))
        assert 77 in await proposed(w)


async def test_what_only_a_snapshot_or_a_caller_knows_is_not_proposed(world: WorldFactory) -> None:
    async with world(serving_popular_refresh_ms=1) as w:
        await w.publish(content_ids=(5, 6))
        await w.put(Content(content_id=1))
        await clicked(w, 5, 900)
        await rank(w, candidates=[800, 900])
        assert await proposed(w, 2) == {1}


async def test_no_more_than_set_and_every_content_keeps_a_chance(world: WorldFactory) -> None:
    async with world(serving_propose_count=5, serving_propose_random=1.0) as w:
        await w.put(*(Content(content_id=i, published_at_ms=i) for i in range(1, 31)))
        seen: set[int] = set()
        for turn in range(1, 61):
            some = await proposed(w, turn)
            assert len(some) == 5
            seen |= some
    assert seen == set(range(1, 31))


async def test_an_empty_catalogue_has_nothing_to_show(world: WorldFactory) -> None:
    async with world() as w:
        found = await rank(w, explain=True)
    assert (found["slate"], found["impression_id"], found["policy"]) == ([], None, None)


async def test_cold_rankings_are_proposed_for_too(world: WorldFactory) -> None:
    async with world(serving_greedy=True, serving_popular_refresh_ms=1) as w:
        await w.put(*(Content(content_id=i) for i in range(1, 9)))
        await clicked(w, 7, 7, 3)
        found = await rank(w)
    assert [position["content_id"] for position in found["slate"]] == [7, 3]


async def test_without_redis_it_still_proposes(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1), Content(content_id=2))
        w.history.available = False
        found = await rank(w)
    assert {position["content_id"] for position in found["slate"]} == {1, 2}
    assert found["degraded"] == ["history"]


async def test_a_large_catalogue_is_searched_beside_the_loop_and_what_is_hidden_meanwhile_is_gone(
    world: WorldFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(*given: Any) -> Any:
        started.set()
        assert go_on.wait(20)
        return nearest(*given)

    monkeypatch.setattr(proposer, "_ON_THE_LOOP", 10)
    monkeypatch.setattr(proposer, "nearest", slow)
    async with world(**ONLY_NEAREST) as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in range(1, 31)))
        await w.history.append([("ann", Visit("e", 1, 1))])
        asked = asyncio.create_task(proposed(w))
        await until(started.is_set)
        await w.put(
            Content(content_id=2, embedding=vector(2), hidden=True),
            *(Content(content_id=i) for i in range(2_000, 4_000)),
        )
        go_on.set()
        assert await asked == set(range(3, 31))
