"""POST /api/v1/rank."""

from typing import Any

import numpy as np
import pytest

from libs.adapters.memory import MemoryContentStore
from libs.adapters.ports import StoredContent, Visit
from libs.events.codec import decode_event, encode
from libs.events.schema import Content
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration, Scores, log_probabilities, plackett_luce, slate_scores
from libs.rl.transitions import State
from services.serving.impressions import impression_of
from services.serving.ranking import Candidates, Ranking
from tests.unit.serving.world import World, WorldFactory, until, vector


async def rank(w: World, **body: Any) -> Any:
    answer = await w.client.post("/api/v1/rank", json={"user_id": "ann", "candidates": [1, 2, 3], "size": 2} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_answer_and_impression_tell_the_same_story(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in (1, 2, 3, 4)))
        await w.publish(content_ids=(1, 2, 3, 4))
        await w.history.append([("ann", Visit("e1", 4, 1_000)), ("ann", Visit("e2", 1, 2_000))])
        found = await rank(w, context={"device": "phone", "hour": 7})
        (logged,) = await w.impressions(1)
    assert logged.event_id == found["impression_id"]
    assert list(logged.slate) == [position["content_id"] for position in found["slate"]]
    assert logged.history == (1, 4)  # newest first
    assert logged.history_age_s[1] - logged.history_age_s[0] == pytest.approx(1.0)
    assert logged.context == {"device": "phone", "hour": 7}
    assert (logged.policy, logged.snapshot_version) == ("value", found["snapshot_version"]) == ("value", 1_000)
    conditional = np.exp(np.diff(logged.log_propensities, prepend=0.0))
    assert conditional == pytest.approx([position["propensity"] for position in found["slate"]])


async def test_logged_propensities_follow_from_the_logged_scores(world: WorldFactory) -> None:
    async with world(serving_temperature=0.7, serving_epsilon=0.3) as w:
        await w.publish(content_ids=tuple(range(30)))
        for _ in range(20):
            await rank(w, candidates=list(range(30)), size=5)
        for logged in await w.impressions(20):
            positions = np.array([logged.candidates.index(content) for content in logged.slate])
            exploration = Exploration(logged.temperature, logged.epsilon)
            again = log_probabilities(np.array(logged.scores, np.float32), positions, exploration)
            assert again == pytest.approx(logged.log_propensities, abs=1e-4)


async def test_scores_follow_from_the_logged_state(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in (1, 2, 3)))
        snapshot = await w.publish(content_ids=(1, 2, 3))
        await w.history.append([("ann", Visit("e1", 3, 1_000))])
        await rank(w, context={"hour": 3.0})
        (logged,) = await w.impressions(1)
        space = w.serving.contents.space
        state = State(logged.history, logged.history_age_s, logged.context)
        fresh = Scorer(snapshot, space).score(state, space.index(logged.candidates))
    assert logged.scores == pytest.approx(slate_scores(fresh, "value", "multi", 2).tolist(), abs=1e-5)


async def test_what_the_snapshot_predicted_is_logged_and_a_cold_ranking_predicts_nothing(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in (1, 2, 3)))
        await rank(w)
        snapshot = await w.publish(content_ids=(1, 2, 3))
        await rank(w)
        cold, logged = await w.impressions(2)
        space = w.serving.contents.space
        state = State(logged.history, logged.history_age_s, logged.context)
        fresh = Scorer(snapshot, space).score(state, space.index(logged.slate))
    assert (cold.choice, cold.advantage, cold.value, cold.continuation) == ((), (), None, None)
    assert logged.choice == pytest.approx(fresh.choice.tolist(), abs=1e-5)
    assert logged.advantage == pytest.approx(fresh.advantage.tolist(), abs=1e-5)
    assert (logged.value, logged.continuation) == (pytest.approx(fresh.u, abs=1e-5), pytest.approx(fresh.n, abs=1e-5))


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e16])
def test_a_prediction_that_the_wire_cannot_carry_is_left_out(number: float) -> None:
    predicted = Scores(np.array([1.0, number], np.float32), np.zeros(2, np.float32), 0.5, 0.25, 0.0)
    drawn = plackett_luce(np.array([1.0, 0.0], np.float32), Exploration(), 2, np.random.default_rng(0))
    candidates = Candidates(np.array([7, 8]), np.zeros(2, np.int32))
    logged = impression_of("i", "ann", State(), Ranking(candidates, drawn, "p", 1, Exploration(), predicted), 1)
    assert (logged.choice, logged.value) == ((), None)
    assert decode_event(encode(logged)) == logged


def test_scores_are_logged_in_as_few_digits_as_single_precision_needs() -> None:
    scores = np.array([[0.1, 0], [1 / 3, 0], [-2.5e-7, 0], [12_345_678, 0]], np.float32)[:, 0]  # rule a: every other
    drawn = plackett_luce(scores, Exploration(), 4, np.random.default_rng(0))
    candidates = Candidates(np.arange(4), np.zeros(4, np.int32))
    logged = impression_of("i", "ann", State(), Ranking(candidates, drawn, "a", 1, Exploration()), 1)
    assert logged.scores == (0.1, 0.33333334, -2.5e-7, 12_345_678.0)
    assert np.array(logged.scores, np.float32).tolist() == scores.tolist()
    assert decode_event(encode(logged)) == logged


async def test_a_learner_that_sees_slates_narrow_raises_exploration_and_the_log_says_so(world: WorldFactory) -> None:
    async with world(serving_temperature=0.5, serving_epsilon=0.4) as w:
        await w.publish(content_ids=tuple(range(9)), boost=4.0)
        await rank(w, candidates=list(range(9)), size=5)
        (logged,) = await w.impressions(1)
    assert (logged.temperature, logged.epsilon) == (2.0, 1.0)
    positions = np.array([logged.candidates.index(content) for content in logged.slate])
    again = log_probabilities(np.array(logged.scores, np.float32), positions, Exploration(2.0, 1.0))
    assert again == pytest.approx(logged.log_propensities, abs=1e-4)


async def test_greedy_takes_the_best_and_says_so(world: WorldFactory) -> None:
    async with world(serving_greedy=True, serving_rule="p") as w:
        await w.publish(content_ids=(1, 2, 3))
        found = await rank(w, size=3)
        (logged,) = await w.impressions(1)
    scores = [position["score"] for position in found["slate"]]
    assert scores == sorted(scores, reverse=True)
    assert (found["policy"], found["arm"], logged.temperature, logged.epsilon) == ("p", "greedy", 0.0, 0.0)
    assert logged.log_propensities == (0.0, 0.0, 0.0)


async def test_cold_policy_prefers_what_is_popular_and_new(world: WorldFactory) -> None:
    async with world(serving_greedy=True) as w:
        await w.put(Content(content_id=3, published_at_ms=1), Content(content_id=4, published_at_ms=4_000_000_000_000))
        await w.history.append([("bob", Visit(f"e{i}", 2, i)) for i in range(5)])
        found = await rank(w, candidates=[1, 2, 3, 4], size=3)
        (logged,) = await w.impressions(1)
    assert [position["content_id"] for position in found["slate"]] == [2, 4, 1]  # clicked, new, as good as any
    assert (found["policy"], found["snapshot_version"], logged.policy) == ("cold", 0, "cold")
    assert found["degraded"] == []


async def test_cold_propensities_are_exact_too(world: WorldFactory) -> None:
    async with world() as w:
        await w.history.append([("bob", Visit("e", 2, 1))])
        found = await rank(w, size=3)
        (logged,) = await w.impressions(1)
    positions = np.array([logged.candidates.index(content) for content in logged.slate])
    again = log_probabilities(np.array(logged.scores, np.float32), positions, Exploration(0.25, 0.02))
    assert again == pytest.approx(logged.log_propensities, abs=1e-6)
    assert np.prod([position["propensity"] for position in found["slate"]]) == pytest.approx(np.exp(again[-1]))


async def test_hidden_excluded_and_repeated_candidates(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish(content_ids=(1, 2, 3))
        await w.put(Content(content_id=2, hidden=True))
        found = await rank(w, candidates=[1, 2, 3, 3, 4, 1], exclude_ids=[4, 99], size=10)
        (logged,) = await w.impressions(1)
    assert logged.candidates == (1, 3)
    assert sorted(position["content_id"] for position in found["slate"]) == [1, 3]


async def test_nothing_left_to_show(world: WorldFactory) -> None:
    async with world() as w:
        found = await rank(w, candidates=[1], exclude_ids=[1])
    assert (found["slate"], found["impression_id"], found["arm"]) == ([], None, None)


async def test_unknown_contents_are_ranked_as_new_ones_and_do_not_grow_the_matrix(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish(content_ids=(1, 2))
        before = len(w.serving.contents.space)
        found = await rank(w, candidates=[1, *range(10_000, 10_020)], size=21)
        (logged,) = await w.impressions(1)
        space = w.serving.contents.space
        assert len(space) == before
        scores = dict(zip(logged.candidates, logged.scores, strict=True))
        assert np.ptp([scores[i] for i in range(10_000, 10_020)]) < 1e-5
        # The same score a content gets that has a row but neither vector nor history.
        await w.put(Content(content_id=10_000))
        again = await rank(w, candidates=[1, 10_000], size=2)
    assert len(found["slate"]) == 21
    assert {p["content_id"]: p["score"] for p in again["slate"]}[10_000] == pytest.approx(scores[10_000], abs=1e-5)


async def test_a_content_put_on_the_topic_is_rankable_by_its_vector_at_once(world: WorldFactory) -> None:
    async with world(serving_greedy=True) as w:
        await w.publish(content_ids=(1,))
        await w.put(Content(content_id=5, embedding=vector(5)), Content(content_id=6, embedding=vector(6)))
        await rank(w, candidates=[5, 6, 7])
        (logged,) = await w.impressions(1)
    assert len(set(logged.scores)) == 3


async def test_contents_of_the_history_are_read_from_sql_too(world: WorldFactory) -> None:
    store = MemoryContentStore([StoredContent(9, "Nine", embedding=vector(9))])
    async with world(store=store) as w:
        await w.history.append([("ann", Visit("e", 9, 1))])
        await rank(w)
        assert 9 in w.serving.contents


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"user_id": ""}, "body.user_id"),
        ({"user_id": 7}, "body.user_id"),
        ({"user_id": "x" * 129}, "body.user_id"),
        ({"candidates": []}, "body.candidates"),
        ({"candidates": list(range(1_001))}, "body.candidates"),
        ({"candidates": ["1"]}, "body.candidates.0"),
        ({"candidates": [1, -1]}, "body.candidates.1"),
        ({"candidates": [2**63]}, "body.candidates.0"),
        ({"explain": 1}, "body.explain"),
        ({"size": 0}, "body.size"),
        ({"size": 51}, "body.size"),
        ({"context": {"a": [1]}}, "body.context.a.constrained-str"),
        ({"context": {str(i): 1 for i in range(65)}}, "body.context"),
        ({"exclud_ids": [1]}, "body.exclud_ids"),
    ],
)
async def test_a_wrong_field_is_named(world: WorldFactory, body: dict[str, Any], place: str) -> None:
    async with world() as w:
        answer = await w.client.post("/api/v1/rank", json={"user_id": "ann", "candidates": [1], "size": 2} | body)
        assert answer.status_code == 422
        assert place in {".".join(map(str, problem["loc"])) for problem in answer.json()["detail"]}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[",
        b"[]",
        b"null",
        b'{"candidates": [1]}',
        b'"\\ud800"',
        b"\xff",
        b'{"user_id":"\\ud800","candidates":[1]}',
    ],
)
async def test_a_broken_body_is_the_callers_fault(world: WorldFactory, raw: bytes) -> None:
    async with world() as w:
        answer = await w.client.post("/api/v1/rank", content=raw)
        assert answer.status_code == 422
        assert {"type", "loc", "msg", "input"} <= answer.json()["detail"][0].keys()


async def test_any_text_is_a_user(world: WorldFactory) -> None:
    async with world() as w:
        for user_id in ("null", "안녕 하세요", "a\x00b", "' OR 1=1 --", "😀" * 128):
            await rank(w, user_id=user_id)
        assert {event.user_id for event in await w.impressions(5)} == {
            "null",
            "안녕 하세요",
            "a\x00b",
            "' OR 1=1 --",
            "😀" * 128,
        }


async def test_rankings_are_counted_by_policy_and_arm(world: WorldFactory) -> None:
    async with world(serving_epsilon=1.0) as w:
        await rank(w)
        await rank(w)
        assert w.metric("moard_serving_rankings_total", policy="cold", arm="uniform") == 2


class TestWithoutRedis:
    async def test_ranks_without_history_and_says_so(self, world: WorldFactory) -> None:
        async with world() as w:
            await w.publish()
            await w.history.append([("ann", Visit("e", 1, 1))])
            w.history.available = False
            found = await rank(w)
            (logged,) = await w.impressions(1)
            assert w.metric("moard_serving_degraded_total", reason="history") == 1
        assert (found["degraded"], found["policy"], logged.history) == (["history"], "value", ())

    async def test_cold_policy_without_counts(self, world: WorldFactory) -> None:
        async with world() as w:
            w.history.available = False
            assert (await rank(w))["degraded"] == ["history"]

    async def test_no_snapshot_because_the_store_is_away(self, world: WorldFactory) -> None:
        async def away(w: World) -> None:
            w.snapshots.available = False

        async with world(before=away) as w:
            found = await rank(w)
        assert (found["policy"], found["degraded"]) == ("cold", ["snapshot"])


async def test_without_sql_unknown_contents_are_ranked_and_the_answer_says_so(world: WorldFactory) -> None:
    async with world() as w:
        w.store.available = False
        assert (await rank(w))["degraded"] == ["catalogue"]
        await w.put(*(Content(content_id=i) for i in (1, 2, 3)))
        assert (await rank(w))["degraded"] == []


async def test_what_is_away_is_named_in_a_header(world: WorldFactory) -> None:
    async with world() as w:
        body = {"user_id": "ann", "candidates": [1, 2, 3]}
        assert "moard-degraded" not in (await w.client.post("/api/v1/rank", json=body)).headers
        w.history.available = w.store.available = False
        answer = await w.client.post("/api/v1/rank", json={**body, "candidates": [4, 5]})
        assert answer.headers["moard-degraded"] == "history,catalogue"
        assert answer.json()["degraded"] == ["history", "catalogue"]


async def test_without_a_broker_the_answer_says_that_its_impression_may_be_lost(world: WorldFactory) -> None:
    async with world() as w:
        w.log.available = False
        await rank(w)
        await until(lambda: w.metric("moard_serving_impressions_dropped_total") >= 1)
        found = await rank(w)
        assert (found["degraded"], len(found["slate"])) == (["impression"], 2)
        assert w.metric("moard_serving_degraded_total", reason="impression") == 1


async def test_a_full_impression_buffer_degrades_and_is_counted(world: WorldFactory) -> None:
    async with world(serving_impression_buffer=1) as w:
        w.log.available = False
        degraded = [(await rank(w))["degraded"] for _ in range(3)]
        assert ["impression"] in degraded
        assert w.metric("moard_serving_impressions_dropped_total") >= 1
