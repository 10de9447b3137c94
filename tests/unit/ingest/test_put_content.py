"""PUT /api/v1/contents/{id}, every status."""

import math
from typing import Any

import numpy as np
import pytest

from libs.adapters.memory import MemoryContentStore
from libs.events.codec import decode_content
from libs.events.topics import CONTENTS
from libs.text.vectors import TextVectors
from services.ingest.answers import ContentAnswer, RejectedField
from tests.unit.ingest.stand import Stand, settings_of


class LetterModel:
    """A text model small enough to check: counts of a, b and c."""

    version = "letters-1"

    def infer(self, title: str, description: str = "") -> np.ndarray:
        return np.array([(title + description).count(letter) for letter in "abc"], np.float32)


def announced(stand: Stand) -> list[Any]:
    return [decode_content(record.value) for record in stand.log.records(CONTENTS)]


async def test_a_given_vector_is_kept_and_announced(stand: Stand) -> None:
    body = {"title": "T", "description": "D", "embedding": [1, 0.5, -2], "type": "film", "hidden": True}
    answer = await stand.put(7, body)
    assert answer.status_code == 200
    assert answer.json() == {"content_id": 7, "vector": "given", "vector_version": ""}
    ContentAnswer.model_validate(answer.json())
    (content,) = announced(stand)
    assert (content.content_id, content.title, content.description) == (7, "T", "D")
    assert (content.embedding, content.kind, content.hidden) == ((1.0, 0.5, -2.0), "film", True)
    assert stand.log.records(CONTENTS)[0].key == b"7"
    assert (await stand.contents.get([7]))[0].embedding == (1.0, 0.5, -2.0)


async def test_without_a_model_a_content_has_no_vector_and_the_answer_says_so(stand: Stand) -> None:
    answer = await stand.put(7, {"title": ""})
    assert answer.json() == {"content_id": 7, "vector": "none", "vector_version": ""}
    assert announced(stand)[0].embedding is None


async def test_with_a_model_the_vector_is_computed_from_the_text() -> None:
    vectors = TextVectors(LetterModel())
    stand = Stand(settings_of(), vectors)
    answer = await stand.put(7, {"title": "abba", "description": "cab"})
    assert answer.json() == {"content_id": 7, "vector": "computed", "vector_version": "letters-1"}
    assert announced(stand)[0].embedding == (3.0, 3.0, 1.0)
    assert (await stand.contents.get([7]))[0].vector_version == "letters-1"
    given = await stand.put(7, {"title": "abba", "embedding": [0, 0, 1]})
    assert given.json()["vector"] == "given"
    vectors.close()
    await stand.client.aclose()


async def test_put_replaces_the_whole_content(stand: Stand) -> None:
    await stand.put(7, {"title": "T", "description": "D", "embedding": [1, 2, 3], "hidden": True})
    await stand.put(7, {"title": "T2"})
    assert (announced(stand)[-1].description, announced(stand)[-1].hidden) == ("", False)
    assert announced(stand)[-1].embedding is None


@pytest.mark.parametrize(
    ("published_at", "epoch_ms"),
    [
        (1_600_000_000_000, 1_600_000_000_000),
        ("2020-01-01", 1_577_836_800_000),
        ("2020-01-01T00:00:00", 1_577_836_800_000),
        ("2020-01-01T01:00:00+01:00", 1_577_836_800_000),
        (None, None),
    ],
)
async def test_publication_times(stand: Stand, published_at: object, epoch_ms: int | None) -> None:
    assert (await stand.put(7, {"title": "T", "published_at": published_at})).status_code == 200
    assert announced(stand)[0].published_at_ms == epoch_ms


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"[" * 100_000, ""),
        (b'{"title": "\xff"}', ""),
        (b"{}", "title"),
        (b'{"title": null}', "title"),
        (b'{"title": 1}', "title"),
        (b'{"title": "%s"}' % (b"a" * 2_001), "title"),
        (b'{"title": "T", "description": "%s"}' % (b"a" * 20_001), "description"),
        (b'{"title": "T", "embedding": [1, 2]}', "embedding"),
        (b'{"title": "T", "embedding": []}', "embedding"),
        (b'{"title": "T", "embedding": "1,2,3"}', "embedding"),
        (b'{"title": "T", "embedding": [1, NaN, 3]}', "embedding.1"),
        (b'{"title": "T", "embedding": [1, 2, 1e999]}', "embedding.2"),
        (b'{"title": "T", "embedding": [1, 2, "3"]}', "embedding.2"),
        (b'{"title": "T", "embedding": [1, 2, 3, true]}', "embedding.3"),
        (b'{"title": "T", "hidden": "yes"}', "hidden"),
        (b'{"title": "T", "type": 3}', "type"),
        (b'{"title": "T", "published_at": "soon"}', "published_at"),
        (b'{"title": "T", "published_at": "1950-01-01"}', "published_at"),
        (b'{"title": "T", "published_at": -1}', "published_at"),
    ],
)
async def test_a_wrong_body_is_422_and_names_the_field(stand: Stand, body: bytes, field: str) -> None:
    answer = await stand.put(7, body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = RejectedField.model_validate(answer.json())
    assert problem.field == field
    assert problem.detail
    assert announced(stand) == []


@pytest.mark.parametrize("content_id", ["-1", "1.0", "abc", str(2**63), "9" * 5_000, "%D9%A3", "+1"])
async def test_an_id_that_is_none_is_422(stand: Stand, content_id: str) -> None:
    answer = await stand.put(content_id, {"title": "T"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "content_id"


async def test_the_largest_id_is_one(stand: Stand) -> None:
    assert (await stand.put(2**63 - 1, {"title": "T"})).status_code == 200


async def test_database_away_announces_nothing(stand: Stand) -> None:
    stand.contents.available = False
    answer = await stand.put(7, {"title": "T"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert announced(stand) == []


async def test_broker_away_is_503_and_the_content_is_stored_for_the_follower(stand: Stand) -> None:
    stand.log.available = False
    answer = await stand.put(7, {"title": "T"})
    assert answer.status_code == 503
    assert "again" in answer.json()["detail"]
    stand.log.available = True
    assert announced(stand) == []
    assert [content.title for content in await stand.contents.get([7])] == ["T"]
    assert (await stand.put(7, {"title": "T"})).status_code == 200
    assert len(announced(stand)) == 1


async def test_a_vector_of_float32_survives_the_wire(stand: Stand) -> None:
    vector = [float(np.float32(value)) for value in (0.1, math.pi, -1e-30)]
    await stand.put(7, {"title": "T", "embedding": vector})
    assert announced(stand)[0].embedding == tuple(vector)
    assert isinstance(stand.contents, MemoryContentStore)
