"""POST /api/v1/predict/top-contents: every row of the legacy contract."""

import time
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from libs.adapters.memory import MemoryContentStore
from libs.adapters.ports import StoredContent, Visit
from libs.events.schema import Content
from tests.unit.serving.world import VECTOR, World, WorldFactory, vector

ANN = "6f1d3c9e-52a1-4e8f-9d53-0c1f4a6b7d8e"
PATH = "/api/v1/predict/top-contents"


def legacy_store() -> MemoryContentStore:
    return MemoryContentStore([StoredContent(i, f"Content {i}", embedding=vector(i)) for i in range(1, 11)], [ANN])


async def top(w: World, content_ids: Any, user_id: str = ANN) -> Any:
    answer = await w.client.post(PATH, json={"user_id": user_id, "content_ids": content_ids})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(w: World, **body: Any) -> int:
    answer = await w.client.post(PATH, json={"user_id": ANN, "content_ids": [1]} | body)
    assert "detail" in answer.json()
    return answer.status_code


async def test_six_of_the_request_once_each(world: WorldFactory) -> None:
    async with world(store=legacy_store()) as w:
        await w.publish(content_ids=tuple(range(1, 11)))
        found = await top(w, list(range(1, 11)))
        (logged,) = await w.impressions(1)
    assert len(found["content_ids"]) == len(set(found["content_ids"])) == 6
    assert set(found["content_ids"]) <= set(range(1, 11))
    assert found["impression_id"] == logged.event_id
    assert logged.user_id == ANN
    assert (found["snapshot_version"], found["degraded"]) == (1_000, [])


async def test_impressions_can_be_left_to_the_backends_tables(world: WorldFactory) -> None:
    async with world(store=legacy_store(), serving_top_contents_impressions=False) as w:
        await w.publish(content_ids=tuple(range(1, 11)))
        found = await top(w, list(range(1, 11)))
        assert (len(found["content_ids"]), found["impression_id"]) == (6, None)
        ranked = (await w.client.post("/api/v1/rank", json={"user_id": ANN, "candidates": [1, 2]})).json()
        (logged,) = await w.impressions(1)
    assert logged.event_id == ranked["impression_id"]


async def test_best_first(world: WorldFactory) -> None:
    async with world(store=legacy_store(), serving_greedy=True) as w:
        await w.publish(content_ids=tuple(range(1, 11)))
        found = await top(w, list(range(1, 11)))
        (logged,) = await w.impressions(1)
    scores = dict(zip(logged.candidates, logged.scores, strict=True))
    assert found["content_ids"] == sorted(scores, key=lambda i: -scores[i])[:6]


async def test_fewer_than_six_duplicates_and_unknown_ids(world: WorldFactory) -> None:
    async with world(store=legacy_store()) as w:
        found = await top(w, [3, 3, 77, 2, 2, 99])
    assert sorted(found["content_ids"]) == [2, 3]


@pytest.mark.parametrize("odd", [["3"], [3.0], [3, -1], [3, 0], [3, 2**64], [3, 10**4_000], ["3", -1, 0, 2**63]])
async def test_ids_are_coerced_or_ignored(world: WorldFactory, odd: list[Any]) -> None:
    async with world(store=legacy_store()) as w:
        assert (await top(w, odd))["content_ids"] == [3]
        if unusable := [i for i in odd if i not in ("3", 3)]:
            assert await status(w, content_ids=unusable) == 404


async def test_without_history_the_embedding_is_zero(world: WorldFactory) -> None:
    async with world(store=legacy_store()) as w:
        assert (await top(w, [1]))["user_embedding"] == [0.0] * VECTOR


async def test_user_embedding_is_the_legacy_mean(world: WorldFactory) -> None:
    async with world(store=legacy_store()) as w:
        now = time.time_ns() // 1_000_000
        hours = {1: 0.0, 2: 5.0, 77: 1.0}  # 77 has no vector and does not count
        visits = [Visit(f"e{i}", i, now - int(age * 3_600_000)) for i, age in hours.items()]
        old = [Visit(f"old{i}", 3, now - 10**9 - i) for i in range(8)]  # the tenth and older are left out
        await w.history.append([(ANN, visit) for visit in visits + old])
        found = await top(w, [1, 2, 3])
    weights = [0.9 ** hours[1], 0.9 ** hours[2], *[0.9 ** (1e9 / 3.6e6)] * 7]
    vectors = [vector(1), vector(2), *[vector(3)] * 7]
    expected = np.average(vectors, axis=0, weights=weights) * sum(weights) / 9
    assert found["user_embedding"] == pytest.approx(expected.tolist(), abs=1e-5)


async def test_model_name_is_what_model_list_calls_current(world: WorldFactory) -> None:
    async with world(store=legacy_store()) as w:
        listed = (await w.client.get("/api/v1/model/list")).json()
        found = await top(w, [1])
    assert found["model_name"] == listed["current_model"]
    assert listed["current_model"] in listed["models"]
    assert isinstance(listed["message"], str)


class TestUnknown:
    async def test_user(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            assert await status(w, user_id=str(uuid4())) == 404

    async def test_user_seen_in_events_only(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            user = str(uuid4())
            await w.history.mark_seen([user])
            assert (await top(w, [1], user))["content_ids"] == [1]

    async def test_user_in_any_spelling(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            await w.history.append([(ANN, Visit("e", 1, 1))])
            await top(w, [1, 2], ANN.upper().replace("-", ""))
            (logged,) = await w.impressions(1)
        assert (logged.user_id, logged.history) == (ANN, (1,))

    @pytest.mark.parametrize("content_ids", [[], [77], [-1]])
    async def test_contents(self, world: WorldFactory, content_ids: list[int]) -> None:
        async with world(store=legacy_store()) as w:
            assert await status(w, content_ids=content_ids) == 404

    async def test_hidden_content(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            await w.put(Content(content_id=1, hidden=True))
            assert await status(w, content_ids=[1]) == 404


@pytest.mark.parametrize(
    "body",
    [
        {"user_id": "nobody"},
        {"user_id": None},
        {"content_ids": None},
        {"content_ids": 1},
        {"content_ids": ["x"]},
        {"content_ids": [1.5]},
        {"content_ids": [None]},
        {"content_ids": [float("nan")]},
        {"content_ids": [[1]]},
        {"content_ids": list(range(1_001))},
    ],
)
async def test_wrong_bodies(world: WorldFactory, body: dict[str, Any]) -> None:
    async with world(store=legacy_store()) as w:
        import json

        raw = json.dumps({"user_id": ANN, "content_ids": [1]} | body)
        answer = await w.client.post(PATH, content=raw)
        assert answer.status_code == 422
        problem = answer.json()["detail"][0]
        assert {"type", "loc", "msg", "input"} <= problem.keys()
        assert problem["loc"][:2] == ["body", next(iter(body))]


@pytest.mark.parametrize("raw", ['{"user_id": "' + ANN + '"}', "{", "", '"text"'])
async def test_incomplete_and_broken_json(world: WorldFactory, raw: str) -> None:
    async with world() as w:
        answer = await w.client.post(PATH, content=raw)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"][0] == "body"


async def test_get_is_not_allowed(world: WorldFactory) -> None:
    async with world() as w:
        answer = await w.client.get(PATH)
        assert (answer.status_code, answer.json()["detail"]) == (405, "Method Not Allowed")


class TestDegraded:
    async def test_known_users_are_served_while_sql_is_away(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            await top(w, [1, 2])
            w.store.available = False
            found = await top(w, [1, 2])
        assert (sorted(found["content_ids"]), found["degraded"]) == ([1, 2], [])

    async def test_unknown_user_while_sql_is_away(self, world: WorldFactory) -> None:
        async with world() as w:
            await w.put(Content(content_id=1))
            w.store.available = False
            assert (await top(w, [1], str(uuid4())))["degraded"] == ["users"]
            assert w.metric("moard_serving_degraded_total", reason="users") == 1
            body = {"user_id": str(uuid4()), "content_ids": [1]}
            answer = await w.client.post("/api/v1/predict/top-contents", json=body)
            assert answer.headers["moard-degraded"] == "users"

    async def test_unknown_contents_while_sql_is_away(self, world: WorldFactory) -> None:
        async with world() as w:
            await w.history.mark_seen([ANN])
            w.store.available = False
            found = await top(w, [1, 2])
        assert (sorted(found["content_ids"]), found["degraded"]) == ([1, 2], ["catalogue"])

    async def test_redis_away(self, world: WorldFactory) -> None:
        async with world(store=legacy_store()) as w:
            w.history.available = False
            assert (await top(w, [1]))["degraded"] == ["history"]
            assert set((await top(w, [1], str(uuid4())))["degraded"]) == {"history", "users"}

    async def test_everything_away(self, world: WorldFactory) -> None:
        async with world() as w:
            w.history.available = w.store.available = w.snapshots.available = w.log.available = False
            found = await top(w, [1, 2, 3])
        assert sorted(found["content_ids"]) == [1, 2, 3]
        assert {"history", "users", "catalogue"} <= set(found["degraded"])
