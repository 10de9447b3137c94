"""``explain`` on POST /api/v1/rank: the numbers make the score again."""

import math
from typing import Any

import pytest

from libs.adapters.ports import Visit
from libs.events.schema import Content
from tests.unit.serving.test_propose import rank
from tests.unit.serving.world import WorldFactory, vector

CATALOGUE = tuple(range(1, 13))
BEFORE_MS = 1_000


def score_of(content: Any, request: Any) -> float:
    """Make the score again as the documentation of the answer says."""
    rule, single = request["rule"], request["consumption"] == "single"
    if rule == "cold":
        return float(content["popularity"] + content["recency"])
    if rule == "a":
        return float(content["advantage"])
    if single:
        weight = math.exp(content["choice_logit"] - request["choice_offset"])
        return weight if rule == "p" else weight * (content["advantage"] - request["slate_advantage"])
    probability = 1 / (1 + math.exp(-content["choice_logit"]))
    assert content["choice_probability"] == pytest.approx(probability, abs=1e-9)
    return probability if rule == "p" else probability * float(content["advantage"])


async def explained(world: WorldFactory, consumption: str, **settings: Any) -> Any:
    async with world(**settings) as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in CATALOGUE))
        await w.publish(content_ids=CATALOGUE[:-1], consumption=consumption)
        await w.history.append([("ann", Visit(f"e{i}", i, BEFORE_MS + i)) for i in (1, 2, 3, 4, 2)])
        return await rank(w, candidates=list(CATALOGUE), size=5, explain=True, context={"hour": 3})


@pytest.mark.parametrize("consumption", ["multi", "single"])
@pytest.mark.parametrize("rule", ["value", "a", "p"])
@pytest.mark.parametrize("greedy", [True, False])
async def test_the_score_follows_from_the_explanation(
    world: WorldFactory, rule: str, consumption: str, greedy: bool
) -> None:
    found = await explained(world, consumption, serving_rule=rule, serving_greedy=greedy, serving_epsilon=1.0)
    request = found["explanation"]
    assert (request["rule"], request["consumption"]) == (rule, consumption)
    assert len(found["slate"]) == 5
    for position in found["slate"]:
        reasons = position["explanation"]
        assert score_of(reasons, request) == pytest.approx(position["score"], abs=1e-5, rel=1e-5)
        assert sum(reasons["choice_parts"].values()) == pytest.approx(reasons["choice_logit"], abs=1e-4)
        assert sum(reasons["advantage_parts"].values()) == pytest.approx(reasons["advantage"], abs=1e-4)
        assert reasons["value"] == pytest.approx(request["continuation"] + reasons["advantage"], abs=1e-5)


async def test_at_most_one_of_a_slate_is_chosen(world: WorldFactory) -> None:
    found = await explained(world, "single")
    reasons = [position["explanation"] for position in found["slate"]]
    weights = [math.exp(each["choice_logit"]) for each in reasons]
    expected = [weight / (1 + sum(weights)) for weight in weights]
    assert [each["choice_probability"] for each in reasons] == pytest.approx(expected, abs=1e-6)


async def test_what_the_impression_logs_is_what_is_explained(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(*(Content(content_id=i, embedding=vector(i)) for i in CATALOGUE))
        snapshot = await w.publish(content_ids=CATALOGUE[:-1])
        await w.history.append([("ann", Visit("e", 1, BEFORE_MS))])
        found = await rank(w, candidates=list(CATALOGUE), size=12, explain=True)
        (logged,) = await w.impressions(1)
    reasons = {position["content_id"]: position["explanation"] for position in found["slate"]}
    assert [reasons[i]["choice_logit"] for i in logged.slate] == pytest.approx(logged.choice, abs=1e-6)
    assert [reasons[i]["advantage"] for i in logged.slate] == pytest.approx(logged.advantage, abs=1e-6)
    assert (found["explanation"]["user_value"], found["explanation"]["continuation"]) == pytest.approx(
        (logged.value, logged.continuation)
    )
    counts = dict(zip(snapshot.content_ids.tolist(), snapshot.consumptions.tolist(), strict=True))
    assert {i: each["consumptions"] for i, each in reasons.items()} == counts | {12: None}


async def test_the_nearest_contents_of_the_history(world: WorldFactory) -> None:
    async with world() as w:
        vectors = {1: (1.0, 0.0), 2: (0.0, 2.0), 3: (1.0, 1.0), 4: (-1.0, 0.0), 5: (3.0, 0.0)}
        await w.put(*(Content(content_id=i, embedding=(*row, *[0.0] * 6)) for i, row in vectors.items()))
        await w.put(Content(content_id=6), Content(content_id=7))
        await w.history.append([("ann", Visit(f"e{i}", i, BEFORE_MS + i)) for i in (1, 2, 3, 4, 6, 3)])
        found = await rank(w, candidates=[5, 7], size=2, explain=True)
    reasons = {position["content_id"]: position["explanation"] for position in found["slate"]}
    near = [(neighbour["content_id"], neighbour["cosine"]) for neighbour in reasons[5]["nearest_history"]]
    assert [content_id for content_id, _ in near] == [1, 3, 2]
    assert [cosine for _, cosine in near] == pytest.approx([1.0, 0.5**0.5, 0.0], abs=1e-6)
    assert (reasons[5]["has_vector"], reasons[7]["has_vector"], reasons[7]["nearest_history"]) == (True, False, [])


async def test_the_cold_policy_explains_itself(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1, published_at_ms=1), Content(content_id=2))
        await w.put(Content(content_id=3, published_at_ms=4_000_000_000_000))
        await w.history.append([(f"user-{i}", Visit("e", 2, i)) for i in range(4)])
        found = await rank(w, candidates=[1, 2, 3], size=3, explain=True)
    request = found["explanation"]
    assert (request["rule"], request["user_value"], request["consumption"]) == ("cold", None, None)
    reasons = {position["content_id"]: position["explanation"] for position in found["slate"]}
    for position in found["slate"]:
        assert score_of(position["explanation"], request) == pytest.approx(position["score"], abs=1e-5)
    assert {i: each["consumptions"] for i, each in reasons.items()} == {1: 0, 2: 4, 3: 0}
    assert (reasons[2]["age_s"], reasons[2]["recency"], reasons[3]["recency"]) == (None, 0.0, 1.0)
    assert reasons[1]["age_s"] > 1e9
    assert (reasons[1]["choice_logit"], reasons[1]["choice_parts"]) == (None, None)


async def test_where_candidates_come_from(world: WorldFactory) -> None:
    shares = {"serving_propose_count": 3, "serving_propose_random": 0.0, "serving_propose_popular": 0.0}
    async with world(**shares) as w:
        await w.put(*(Content(content_id=i, embedding=vector(i), published_at_ms=i) for i in CATALOGUE))
        await w.history.append([("ann", Visit("e", 1, BEFORE_MS))])
        offered = await rank(w, size=3, explain=True)
        given = await rank(w, candidates=[5], explain=True)
    sources = {position["content_id"]: position["explanation"]["source"] for position in offered["slate"]}
    assert sorted(sources.values()) == ["nearest", "nearest", "new"]
    assert sources[12] in ("new", "nearest")
    assert [position["explanation"]["source"] for position in given["slate"]] == ["given"]


async def test_nothing_is_explained_unasked(world: WorldFactory) -> None:
    async with world() as w:
        await w.put(Content(content_id=1))
        found = await rank(w)
    assert "explanation" not in found
    assert found["slate"][0].keys() == {"content_id", "score", "propensity"}


async def test_what_is_answered_is_what_openapi_says(world: WorldFactory) -> None:
    async with world() as w:
        schemas = (await w.client.get("/openapi.json")).json()["components"]["schemas"]
        await w.put(Content(content_id=1))
        found = await rank(w, explain=True)
    for name, answered in (
        ("RequestExplanation", found["explanation"]),
        ("ContentExplanation", found["slate"][0]["explanation"]),
    ):
        described = schemas[name]["properties"]
        assert described.keys() == answered.keys()
        assert all("description" in field or "$ref" in str(field) for field in described.values())
