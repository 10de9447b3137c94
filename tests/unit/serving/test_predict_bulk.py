"""POST /api/v1/predict/bulk, as JSON and as octets."""

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.world import VECTOR, World, WorldFactory, vector

PATH = "/api/v1/predict/bulk"
OCTETS = {"content-type": "application/octet-stream"}
USER, ONE, TWO = vector(1), vector(2), vector(3)


async def refused(w: World, raw: str | bytes, headers: dict[str, str] | None = None) -> Any:
    answer = await w.client.post(PATH, content=raw, headers=headers or {})
    assert answer.status_code == 422, answer.text
    return answer.json()["detail"][0]


def body(**fields: Any) -> str:
    return json.dumps({"user_embedding": USER, "content_embeddings": [ONE, TWO]} | fields)


async def test_values_in_request_order(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish()
        values = [
            (await w.client.post(PATH, content=body(content_embeddings=list(order)))).json()["q_values"]
            for order in ((ONE, TWO), (TWO, ONE))
        ]
    assert values[0] == pytest.approx(values[1][::-1], abs=1e-6)
    assert values[0][0] != pytest.approx(values[0][1])


async def test_octets_give_the_same_values(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish()
        from_json = (await w.client.post(PATH, content=body())).json()
        raw = np.array([USER, ONE, TWO], "<f4").tobytes()
        from_octets = (await w.client.post(PATH, content=raw, headers=OCTETS)).json()
    assert from_octets == from_json


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"user_embedding": USER[:-1]}, ["body", "user_embedding"]),
        ({"user_embedding": [float("nan"), *USER[1:]]}, ["body", "user_embedding"]),
        ({"user_embedding": [1e300, *USER[1:]]}, ["body", "user_embedding"]),
        ({"user_embedding": None}, ["body", "user_embedding"]),
        ({"content_embeddings": []}, ["body", "content_embeddings"]),
        ({"content_embeddings": [ONE, TWO[1:]]}, ["body", "content_embeddings", 1]),
        ({"content_embeddings": [ONE, [], TWO]}, ["body", "content_embeddings", 1]),
        ({"content_embeddings": [ONE, TWO, [float("inf"), *TWO[1:]]]}, ["body", "content_embeddings", 2]),
        ({"content_embeddings": [["x", *TWO[1:]]]}, ["body", "content_embeddings", 0, 0]),
        ({"content_embeddings": [ONE, [*TWO[:2], [TWO[2]], *TWO[3:]]]}, ["body", "content_embeddings", 1, 2]),
        ({"content_embeddings": [ONE[:-1], [*TWO, 1.0]]}, ["body", "content_embeddings", 0]),
        ({"content_embeddings": ONE}, ["body", "content_embeddings", 0]),
        ({"content_embeddings": {"a": ONE}}, ["body", "content_embeddings"]),
        ({"user_embedding": [None, *USER[1:]]}, ["body", "user_embedding", 0]),
    ],
)
async def test_a_wrong_vector_is_named(world: WorldFactory, fields: dict[str, Any], loc: list[Any]) -> None:
    async with world() as w:
        assert (await refused(w, body(**fields)))["loc"] == loc


@pytest.mark.parametrize("missing", ["user_embedding", "content_embeddings"])
async def test_missing_field(world: WorldFactory, missing: str) -> None:
    async with world() as w:
        raw = json.dumps({key: value for key, value in json.loads(body()).items() if key != missing})
        assert (await refused(w, raw))["loc"] == ["body", missing]


async def test_wrong_octets(world: WorldFactory) -> None:
    async with world() as w:
        for length in (0, 1, VECTOR * 4, VECTOR * 8 + 4):
            assert (await refused(w, b"\0" * length, OCTETS))["loc"] == ["body"]
        bad = np.array([USER, ONE, np.full(VECTOR, np.nan)], "<f4").tobytes()
        assert (await refused(w, bad, OCTETS))["loc"] == ["body", "content_embeddings", 1]


async def test_before_the_first_snapshot(world: WorldFactory) -> None:
    async with world() as w:
        answer = await w.client.post(PATH, content=body())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("whole", [[1, 2, 3, 4, 5, 6, 7, 8], ["1", "2", "3", "4", "5", "6", "7", "8"]])
async def test_numbers_written_otherwise_are_the_same_numbers(world: WorldFactory, whole: list[Any]) -> None:
    async with world() as w:
        await w.publish()
        asked = [body(content_embeddings=[ONE, vector]) for vector in (whole, [float(number) for number in whole])]
        answers = [(await w.client.post(PATH, content=raw)).json()["q_values"] for raw in asked]
    assert answers[0] == answers[1]


async def test_of_a_name_given_twice_the_last_one_counts(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish()
        twice = body().replace("{", f'{{"user_embedding": {json.dumps(TWO)}, ', 1)
        answers = [(await w.client.post(PATH, content=raw)).json() for raw in (twice, body())]
        assert answers[0] == answers[1]
        wrong = body().replace("}", ', "user_embedding": 5}')
        assert (await refused(w, wrong))["loc"] == ["body", "user_embedding"]


async def test_other_fields_are_ignored(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish()
        answers = [(await w.client.post(PATH, content=raw)).json() for raw in (body(note=[[1]]), body())]
    assert answers[0] == answers[1]
