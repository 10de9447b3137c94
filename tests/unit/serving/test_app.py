"""The HTTP face: probes, documentation, CORS, errors, embeddings, draining."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from libs.adapters.memory import MemoryLog
from libs.events.topics import EVENTS
from libs.text.vectors import TextVectors
from tests.unit.serving.world import VECTOR, EchoModel, WorldFactory, until

PAGE = "http://localhost:3000"


async def test_root_says_what_this_is(world: WorldFactory) -> None:
    async with world() as w:
        answer = await w.client.get("/")
    assert answer.status_code == 200
    assert isinstance(answer.json()["message"], str)


async def test_probes(world: WorldFactory) -> None:
    async with world() as w:
        assert (await w.client.get("/healthz")).json() == {"status": "ok"}
        assert (await w.client.get("/readyz")).json() == {"ready": True, "waiting_for": []}


async def test_not_ready_without_the_contents(world: WorldFactory) -> None:
    log = MemoryLog()

    async def no_broker(_: Any) -> None:
        log.available = False

    async with world(before=no_broker, log=log, wait_ready=False) as w:
        answer = await w.client.get("/readyz")
        assert (answer.status_code, answer.json()["waiting_for"][0]) == (503, "contents")
        ranked = await w.client.post("/api/v1/rank", json={"user_id": "a", "candidates": [1]})
        assert ranked.status_code == 200
        log.available = True
        await until(lambda: not w.serving.waiting_for())


async def test_metrics_are_there_before_anything_happened(world: WorldFactory) -> None:
    async with world() as w:
        await w.client.post("/api/v1/rank", json={"user_id": "a", "candidates": [1]})
        text = (await w.client.get("/metrics")).text
    for name in (
        'moard_serving_snapshot_rejected_total{reason="canary"} 0.0',
        'moard_serving_degraded_total{reason="history"} 0.0',
        "moard_serving_impressions_dropped_total 0.0",
        "moard_freshness_seconds_count 0.0",
        'moard_http_request_seconds_count{method="POST",route="/api/v1/rank",status="200"} 1.0',
    ):
        assert name in text


async def test_every_call_is_documented(world: WorldFactory) -> None:
    async with world() as w:
        assert (await w.client.get("/docs")).status_code == 200
        spec = (await w.client.get("/openapi.json")).json()
    posts = {path for path, item in spec["paths"].items() if "post" in item}
    without_body = {f"/api/v1/online-learning/{call}" for call in ("async-train", "train", "collect-training-data")}
    without_body |= {"/api/v1/model/change", "/api/v1/snapshots/{version}/keep", "/api/v1/snapshots/{version}/pin"}
    assert without_body < posts
    assert posts - without_body == {
        "/api/v1/rank",
        "/api/v1/predict/top-contents",
        "/api/v1/predict/bulk",
        "/api/v1/embedding/doc2vec",
        "/api/v1/embedding/doc2vec/bulk",
    }
    for path in posts - without_body:
        body = spec["paths"][path]["post"]["requestBody"]
        assert body["required"]
        assert body["content"]["application/json"]["schema"]["properties"]
    assert "application/octet-stream" in spec["paths"]["/api/v1/predict/bulk"]["post"]["requestBody"]["content"]
    _assert_references_resolve(spec, spec)


def _assert_references_resolve(spec: Any, node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            target = spec
            for part in reference.removeprefix("#/").split("/"):
                target = target[part]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            _assert_references_resolve(spec, item)


class TestCors:
    async def test_preflight_of_the_page(self, world: WorldFactory) -> None:
        headers = {
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        async with world() as w:
            answer = await w.client.options("/api/v1/predict/top-contents", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "content-type" in answer.headers["access-control-allow-headers"].lower()

    @pytest.mark.parametrize("call", [("GET", "/"), ("GET", "/nowhere"), ("POST", "/api/v1/rank"), ("PUT", "/")])
    async def test_on_answers_and_on_errors(self, world: WorldFactory, call: tuple[str, str]) -> None:
        async with world() as w:
            answer = await w.client.request(*call, headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers
        assert "moard-degraded" in answer.headers["access-control-expose-headers"]

    async def test_on_a_crash(self, world: WorldFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        async with world() as w:
            monkeypatch.setattr(w.serving.users, "_history", None)
            body = {"user_id": "a", "candidates": [1]}
            answer = await w.client.post("/api/v1/rank", json=body, headers={"origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)
        assert "NoneType" not in answer.text

    async def test_other_origins(self, world: WorldFactory) -> None:
        async with world(serving_cors_origins="https://a.example, https://b.example/") as w:
            for origin, allowed in (("https://b.example", True), (PAGE, False), ("null", False)):
                answer = await w.client.get("/", headers={"origin": origin})
                assert ("access-control-allow-origin" in answer.headers) == allowed


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("GET", "/api/v1/predict/bulk", 405), ("GET", "/api/v1/nothing", 404), ("GET", "/../etc/passwd", 404)],
    )
    async def test_have_a_detail(self, world: WorldFactory, method: str, path: str, status: int) -> None:
        async with world() as w:
            answer = await w.client.request(method, path)
        assert answer.status_code == status
        assert isinstance(answer.json()["detail"], str)

    async def test_a_body_over_the_limit(self, world: WorldFactory) -> None:
        async with world(serving_body_max_bytes=1_000) as w:
            answer = await w.client.post("/api/v1/rank", content=b" " * 1_001)
        assert answer.status_code == 413


class TestEmbeddings:
    PATH = "/api/v1/embedding/doc2vec"

    async def test_one(self, world: WorldFactory) -> None:
        async with world(texts=TextVectors(EchoModel())) as w:
            for body, start in (
                ({"title": "abc", "description": "de"}, [3.0, 2.0]),
                ({"title": "", "description": None}, [0.0, 0.0]),
                ({"title": "<b>안녕</b>"}, [9.0, 0.0]),
            ):
                answer = await w.client.post(self.PATH, json=body)
                assert answer.status_code == 200
                assert answer.json()["embedding"] == start + [1.0] * (VECTOR - 2)

    async def test_bulk_in_order(self, world: WorldFactory) -> None:
        async with world(texts=TextVectors(EchoModel())) as w:
            texts = [{"title": "x" * length} for length in (3, 1, 2)]
            found = (await w.client.post(self.PATH + "/bulk", json={"contents": texts})).json()["embeddings"]
            assert [embedding[0] for embedding in found] == [3.0, 1.0, 2.0]
            assert (await w.client.post(self.PATH + "/bulk", json={"contents": []})).json() == {"embeddings": []}

    @pytest.mark.parametrize("body", [{}, {"title": None}, {"title": 1}, {"title": "a", "description": 1}])
    async def test_wrong_bodies(self, world: WorldFactory, body: dict[str, Any]) -> None:
        async with world(texts=TextVectors(EchoModel())) as w:
            assert (await w.client.post(self.PATH, json=body)).status_code == 422
            answer = await w.client.post(self.PATH + "/bulk", json={"contents": [{"title": "a"}, body]})
            assert answer.status_code == 422
            assert answer.json()["detail"][0]["loc"][:3] == ["body", "contents", 1]

    async def test_without_a_model(self, world: WorldFactory) -> None:
        async with world() as w:
            assert (await w.client.post(self.PATH, json={"title": "a"})).status_code == 503
            assert (await w.client.post(self.PATH + "/bulk", json={"contents": []})).status_code == 503
            assert (await w.client.post(self.PATH, json={})).status_code == 422

    async def test_a_bulk_holds_up_neither_other_calls_nor_single_texts_and_cannot_pile_up(
        self, world: WorldFactory
    ) -> None:
        model = OneByOne()
        texts, bulk = TextVectors(model), {"contents": [{"title": "bulk"}] * 1_000}
        async with world(texts=texts) as w:
            bulks = [asyncio.create_task(w.client.post(self.PATH + "/bulk", json=bulk)) for _ in range(2)]
            await until(lambda: model.inferred)
            for _ in range(10):
                assert (await w.client.get("/healthz")).status_code == 200
                ranked = await w.client.post("/api/v1/rank", json={"user_id": "a", "candidates": [1]})
                assert ranked.status_code == 200
            full = await w.client.post(self.PATH, json={"title": "one too many"})
            assert (full.status_code, full.headers["retry-after"]) == (503, "2")
            model.allowed.release(2_000)
            assert [(await sent).status_code for sent in bulks] == [200, 200]

            last = asyncio.create_task(w.client.post(self.PATH + "/bulk", json=bulk))
            await until(lambda: len(model.inferred) > 2_000)
            single = asyncio.create_task(w.client.post(self.PATH, json={"title": "one"}))
            await until(lambda: texts._thread._work_queue.qsize() == 1)
            model.allowed.release(1_001)
            assert [(await sent).status_code for sent in (single, last)] == [200, 200]
            assert model.inferred[2_001] == "one"


class OneByOne(EchoModel):
    """Infers as often as a test allows."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.inferred: list[str] = []

    def infer(self, title: str, description: str = "") -> np.ndarray:
        self.inferred.append(title)
        assert self.allowed.acquire(timeout=20)
        return super().infer(title, description)


async def test_impressions_are_flushed_when_serving_stops(world: WorldFactory) -> None:
    async with world() as w:
        ranked = [w.client.post("/api/v1/rank", json={"user_id": "a", "candidates": [1]}) for _ in range(50)]
        await asyncio.gather(*ranked)
    assert len(w.log.records(EVENTS)) == 50


async def test_a_failing_background_task_is_reported(world: WorldFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(expect_crash=True) as w:
        monkeypatch.setattr(w.serving.contents, "apply", None)
        w.log.wake()
        await until(lambda: w.crashes)
    assert isinstance(w.crashes[0], TypeError)
