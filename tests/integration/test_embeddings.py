"""The embedding rows of the legacy contract, on the running service."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.local import Addresses
from infra.services import ServiceProcess
from libs.text.doc2vec import Doc2VecModel, train

pytestmark = pytest.mark.stack

VECTOR = 300
ONE, BULK = "/api/v1/embedding/doc2vec", "/api/v1/embedding/doc2vec/bulk"
TEXTS = ["space robot alien war", "alien robot space", "love wedding comedy", "서울에서 사랑", "서울은 comedy love"]
Start = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Doc2VecModel]:
    folder = tmp_path_factory.mktemp("doc2vec")
    trained = train(enumerate(TEXTS), vector_size=VECTOR, epochs=40)
    trained.save(folder)
    return folder, trained


@pytest.fixture
def start(stack: Addresses, services: Start, tmp_path: Path) -> Start:
    def started(**environment: str) -> ServiceProcess:
        own = {
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/{uuid4().hex}.db",
            "MOARD_MODEL_NAME": f"test-{uuid4().hex[:8]}",
            "MOARD_STATE_PATH": str(tmp_path),
        }
        return services("serving", stack.environment() | own | environment)

    return started


def test_every_row_of_the_contract_and_the_same_vector_in_every_process(
    start: Start, model: tuple[Path, Doc2VecModel]
) -> None:
    folder, trained = model
    found = []
    for seed in ("1", "2"):
        service = start(MOARD_DOC2VEC_PATH=str(folder), PYTHONHASHSEED=seed)
        with httpx.Client(base_url=service.url, timeout=30) as client:
            assert_contract(client)
            texts = [{"title": "Space <b>love</b>", "description": "서울을"}, {"title": "comedy"}]
            found.append(client.post(BULK, json={"contents": texts}).content)
            alone = client.post(ONE, json=texts[0]).json()["embedding"]
            assert alone == pytest.approx(trained.infer("Space <b>love</b>", "서울을").tolist(), abs=1e-7)
    assert found[0] == found[1]


def assert_contract(client: httpx.Client) -> None:
    for body in (
        {"title": "space"},
        {"title": "space", "description": None},
        {"title": "space", "description": ""},
        {"title": "space", "unknown": 1},
    ):
        answer = client.post(ONE, json=body)
        assert answer.status_code == 200
        assert list(answer.json()) == ["embedding"]
        assert answer.json() == client.post(ONE, json={"title": "space"}).json()
        assert len(answer.json()["embedding"]) == VECTOR
    for title in ("", "   ", "<br>", "🙂", "\0"):
        assert client.post(ONE, json={"title": title}).json() == {"embedding": [0.0] * VECTOR}

    contents = [{"title": "space"}, {"title": "love", "description": None}, {"title": ""}]
    many = client.post(BULK, json={"contents": contents}).json()
    assert list(many) == ["embeddings"]
    assert many["embeddings"] == [client.post(ONE, json=content).json()["embedding"] for content in contents]
    assert client.post(BULK, json={"contents": []}).json() == {"embeddings": []}

    wrong: tuple[tuple[dict[str, object], list[str]], ...] = (
        ({}, ["title"]),
        ({"title": None}, ["title"]),
        ({"title": "a", "description": 1}, ["description"]),
    )
    for body, loc in wrong:
        assert_invalid(client.post(ONE, json=body), loc)
        assert_invalid(client.post(BULK, json={"contents": [{"title": "a"}, body]}), ["contents", 1, *loc])
    assert_invalid(client.post(BULK, json={}), ["contents"])
    assert_invalid(client.post(BULK, json={"contents": None}), ["contents"])
    assert_invalid(client.post(BULK, json={"contents": [{"title": "a"}] * 1_001}), ["contents"])
    assert_invalid(client.post(ONE, content=b"{"), [])
    assert client.get(ONE).status_code == 405


def assert_invalid(answer: httpx.Response, loc: list[Any]) -> None:
    assert answer.status_code == 422
    problem = answer.json()["detail"][0]
    assert problem["loc"] == ["body", *loc]
    assert {"type", "loc", "msg", "input"} <= problem.keys()


def test_without_a_model_it_says_how_to_get_one(start: Start) -> None:
    with httpx.Client(base_url=start().url) as client:
        for path, body in ((ONE, {"title": "a"}), (BULK, {"contents": [{"title": "a"}]}), (BULK, {"contents": []})):
            answer = client.post(path, json=body)
            assert answer.status_code == 503
            assert "MOARD_DOC2VEC_PATH" in answer.json()["detail"]
        assert client.post(ONE, json={"title": None}).status_code == 422


async def test_a_bulk_of_a_thousand_holds_nobody_up(start: Start, model: tuple[Path, Doc2VecModel]) -> None:
    service = start(MOARD_DOC2VEC_PATH=str(model[0]))
    bulk = {"contents": [{"title": f"{number} {' '.join(TEXTS)}"} for number in range(1_000)]}
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        running = asyncio.create_task(client.post(BULK, json=bulk))
        ranked = embedded = 0
        while not running.done():
            rank = await client.post("/api/v1/rank", json={"user_id": "a", "candidates": [1, 2, 3]})
            one = await client.post(ONE, json={"title": "space love"})
            assert (rank.status_code, one.status_code) == (200, 200)
            ranked, embedded = ranked + 1, embedded + 1
        assert len((await running).json()["embeddings"]) == 1_000
        assert min(ranked, embedded) >= 10

        answers = await asyncio.gather(*(client.post(BULK, json=bulk) for _ in range(6)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
