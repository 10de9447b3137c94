"""OWASP API Security Top 10 (2023), row by row, on both services; docs/security.md says what holds and why."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from libs.adapters.access import scope_of
from libs.adapters.binding import refuse_unsafe_bind
from libs.adapters.keys import SCOPES, KeyRing, new_key
from libs.adapters.memory import MemoryKeyStore
from libs.adapters.ports import Outgoing, Visit
from libs.errors import RefusedStart
from libs.events.schema import Content
from libs.events.topics import CONTENTS, EVENTS
from libs.rl.snapshot import encode
from tests.snapshots import random_snapshot
from tests.unit.ingest.stand import Stand, settings_of
from tests.unit.serving.world import VECTOR, WorldFactory, meta_of, until, vector

RANK = "/api/v1/rank"
CLICK = {"type": "interaction", "user_id": "ann", "kind": "click", "content_id": 1}
MADE = {scope: new_key(scope, [scope]) for scope in SCOPES}
JSON = {"content-type": "application/json"}
ADMIN_CALLS = [
    ("GET", "/api/v1/model/list"),
    ("POST", "/api/v1/model/change?model_name=x"),
    ("DELETE", "/api/v1/model/x"),
    ("GET", "/api/v1/snapshots"),
    ("POST", "/api/v1/snapshots/1/pin"),
    ("DELETE", "/api/v1/snapshots/pin"),
    ("GET", "/api/v1/online-learning/tasks"),
    ("POST", "/api/v1/online-learning/train"),
    ("POST", "/api/v1/whatever-comes-next"),
]


def bearer(scope: str) -> dict[str, str]:
    return {"authorization": f"Bearer {MADE[scope][0]}"}


def table() -> MemoryKeyStore:
    return MemoryKeyStore(stored for _, stored in MADE.values())


@asynccontextmanager
async def ingest(keys: MemoryKeyStore | None = None, **settings: Any) -> AsyncIterator[Stand]:
    ring = None if keys is None else KeyRing(keys)
    if ring is not None:
        await ring.refresh()
    stand = Stand(settings_of(**settings), keys=ring)
    async with stand.client:
        yield stand


class TestApi1ObjectLevelAuthorization:
    """A key speaks for the installation; what must hold is that one user's id never reaches another's data."""

    @pytest.mark.parametrize(
        "user_id", ["ann ", "ANN", "ann\x00", "*", "ann:1", "../ann", "ann%", "an?", "' OR 1=1 --"]
    )
    async def test_a_user_id_names_one_user_however_it_is_written(self, world: WorldFactory, user_id: str) -> None:
        async with world() as w:
            await w.put(Content(content_id=1, embedding=vector(1)), Content(content_id=2, embedding=vector(2)))
            await w.history.append([("ann", Visit("e1", 1, 1_000))])
            answer = await w.client.post(RANK, json={"user_id": user_id, "candidates": [1, 2]})
            if answer.status_code == 422:
                return
            (impression,) = await w.impressions(1)
        assert (impression.user_id, list(impression.history)) == (user_id, [])


class TestApi2Authentication:
    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer x",
            "Basic YTpi",
            f"Bearer {MADE['rank'][1].digest}",
            f"bearer\t{MADE['rank'][0]}",
        ],
    )
    async def test_without_a_valid_key_nothing_is_answered(self, world: WorldFactory, header: str | None) -> None:
        headers = {} if header is None else {"authorization": header}
        async with world(keys=table()) as w:
            for method, path in [("POST", RANK), ("POST", "/api/v1/predict/bulk"), *ADMIN_CALLS]:
                assert (await w.client.request(method, path, headers=headers)).status_code == 401
            assert (
                await w.client.post(RANK, json={"user_id": "a", "candidates": [1]}, headers=bearer("rank"))
            ).is_success
        async with ingest(table()) as stand:
            assert (await stand.client.post("/api/v1/events", json=CLICK, headers=headers)).status_code == 401
            assert stand.logged() == []

    async def test_a_revoked_key_stops_without_a_restart(self, world: WorldFactory) -> None:
        key, stored = new_key("gone", ["rank"])
        keys, body = MemoryKeyStore([stored]), {"user_id": "a", "candidates": [1]}
        async with world(keys=keys) as w:
            w.client.headers["authorization"] = f"Bearer {key}"
            assert (await w.client.post(RANK, json=body)).status_code == 200
            await keys.revoke(stored.id, 1)
            await until(lambda: w.serving.keys is not None and w.serving.keys.find(key.encode()) is None)
            assert (await w.client.post(RANK, json=body)).status_code == 401


class TestApi3PropertyLevelAuthorization:
    async def test_what_callers_may_not_set_is_not_set(self, world: WorldFactory) -> None:
        async with ingest() as stand:
            body = {
                "title": "a",
                "content_id": 99,
                "vector_version": "mine",
                "updated_at_ms": 1,
                "embedding": [1, 0, 0],
            }
            assert (await stand.put(1, body)).status_code == 200
            (kept,) = await stand.contents.get([1, 99])
            assert (kept.content_id, kept.vector_version) == (1, "")
        async with world() as w:
            body = {"user_id": "a", "candidates": [1], "policy": "greedy"}
            assert (await w.client.post(RANK, json=body)).status_code == 422

    async def test_answers_hold_what_is_documented_and_no_more(self, world: WorldFactory) -> None:
        async with world() as w:
            answer = (await w.client.post(RANK, json={"user_id": "a", "candidates": [1]})).json()
            schemas = (await w.client.get("/openapi.json")).json()["components"]["schemas"]
        assert answer.keys() <= schemas["RankAnswer"]["properties"].keys()
        assert answer["slate"][0].keys() <= schemas["Position"]["properties"].keys()


DEEP = b'{"user_id":"a","candidates":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
HOSTILE = {
    "deep": DEEP,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open": b"[" * 100_000,
    "10 MB": b'{"user_id":"' + b"a" * 10_000_000 + b'"}',
    "a million ids": b'{"user_id":"a","candidates":[' + b",".join(b"%d" % i for i in range(1_000_000)) + b"]}",
    "1,001 ids": orjson.dumps({"user_id": "a", "candidates": list(range(1_001))}),
    "501 events": orjson.dumps({"events": [CLICK] * 501}),
    "a long number": b'{"user_id":"a","candidates":[' + b"9" * 200_000 + b"]}",
    "NaN": b'{"user_id":"a","candidates":[NaN]}',
    "Infinity": b'{"user_id":"a","candidates":[1],"context":{"x":Infinity}}',
    "1e999": b'{"user_id":"a","candidates":[1],"context":{"x":1e999}}',
    "invalid UTF-8": b'{"user_id":"\xff\xfe","candidates":[1]}',
    "a lone surrogate": b'{"user_id":"\\ud800","candidates":[1]}',
    "a long user": orjson.dumps({"user_id": "a" * 100_000, "candidates": [1]}),
    "NUL bytes": b"\x00" * 1_000,
    "nothing": b"",
    "null": b"null",
    "many keys": orjson.dumps({"user_id": "a", "candidates": [1], "context": {str(i): i for i in range(10_000)}}),
}


class TestApi4ResourceConsumption:
    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_bodies_cost_their_sender_an_error_and_nobody_anything(
        self, world: WorldFactory, name: str
    ) -> None:
        paths = (RANK, "/api/v1/predict/top-contents", "/api/v1/predict/bulk", "/api/v1/embedding/doc2vec")
        async with world() as w:
            for path in (*paths, "/api/v1/embedding/doc2vec/bulk"):
                answer = await w.client.post(path, content=HOSTILE[name], headers=JSON)
                assert 400 <= answer.status_code < 500 or answer.status_code == 503, path
                assert len(answer.content) < 10_000
            octets = {"content-type": "application/octet-stream"}
            answer = await w.client.post("/api/v1/predict/bulk", content=HOSTILE[name] + b"x", headers=octets)
            assert 400 <= answer.status_code < 500 or answer.status_code == 503
            assert len(w.serving.contents) == 0
            assert w.log.records(EVENTS) == []
        async with ingest() as stand:
            for method, path in (("POST", "/api/v1/events"), ("PUT", "/api/v1/contents/1")):
                answer = await stand.client.request(method, path, content=HOSTILE[name], headers=JSON)
                assert 400 <= answer.status_code < 500
                assert len(answer.content) < 100_000
            assert stand.logged() == []
            assert await stand.contents.get([1]) == []

    @pytest.mark.parametrize("size", [1, VECTOR - 1, VECTOR + 1])
    async def test_dimensions_are_exact(self, world: WorldFactory, size: int) -> None:
        async with world() as w:
            body = {"user_embedding": [0.0] * VECTOR, "content_embeddings": [[0.0] * size]}
            assert (await w.client.post("/api/v1/predict/bulk", json=body)).status_code == 422
        async with ingest(vector_size=VECTOR) as stand:
            assert (await stand.put(1, {"title": "a", "embedding": [0.0] * size})).status_code == 422

    @pytest.mark.parametrize(
        "path",
        [
            "../../etc/passwd",
            "%2e%2e%2fetc%2fpasswd",
            "%00",
            "a%00b",
            "x" * 5_000,
            "%ff%fe",
            "..%5c..%5c",
            "%0d%0aset-x:1",
        ],
    )
    async def test_hostile_names_are_names_of_nothing(self, world: WorldFactory, path: str) -> None:
        calls = [
            ("DELETE", "/api/v1/model/"),
            ("GET", "/docs/assets/"),
            ("GET", "/api/v1/"),
            ("POST", "/api/v1/snapshots/"),
        ]
        async with world() as w:
            for method, prefix in calls:
                answer = await w.client.request(method, prefix + path)
                assert 400 <= answer.status_code < 500, (method, prefix)
                assert "set-x" not in answer.headers
        async with ingest() as stand:
            assert 400 <= (await stand.client.put(f"/api/v1/contents/{path}", json={"title": "a"})).status_code < 500

    async def test_one_caller_cannot_use_up_what_others_need(self, world: WorldFactory) -> None:
        body = {"user_id": "a", "candidates": [1]}
        other, stored = new_key("other", ["rank"])
        keys = table()
        await keys.add(stored)
        async with world(keys=keys, http_rate_per_s=0.001, http_rate_burst=3) as w:
            statuses = [(await w.client.post(RANK, json=body, headers=bearer("rank"))).status_code for _ in range(5)]
            assert statuses == [200, 200, 200, 429, 429]
            headers = {"authorization": f"Bearer {other}"}
            assert (await w.client.post(RANK, json=body, headers=headers)).status_code == 200


class TestApi5FunctionLevelAuthorization:
    @pytest.mark.parametrize("scope", ["rank", "ingest", "metrics"])
    @pytest.mark.parametrize(("method", "path"), ADMIN_CALLS)
    async def test_administration_needs_the_admin_scope(
        self, world: WorldFactory, method: str, path: str, scope: str
    ) -> None:
        async with world(keys=table()) as w:
            refused = await w.client.request(method, path, headers=bearer(scope))
            assert refused.status_code == 403
            assert "'admin'" in refused.json()["detail"]
            assert (await w.client.request(method, path, headers=bearer("admin"))).status_code != 403

    async def test_neither_may_rank_nor_send_without_its_scope(self, world: WorldFactory) -> None:
        async with world(keys=table()) as w:
            for scope in ("ingest", "admin", "metrics"):
                assert (await w.client.post(RANK, headers=bearer(scope))).status_code == 403
        async with ingest(table()) as stand:
            for scope in ("rank", "admin", "metrics"):
                for method, path in (("POST", "/api/v1/events"), ("PUT", "/api/v1/contents/1")):
                    assert (await stand.client.request(method, path, headers=bearer(scope))).status_code == 403


class TestApi6BusinessFlows:
    """The flow worth abusing is teaching the model: rewards from one caller, as many as it likes."""

    async def test_a_caller_cannot_teach_faster_than_its_rate(self) -> None:
        async with ingest(table(), http_rate_per_s=0.001, http_rate_burst=2) as stand:
            for _ in range(20):
                await stand.client.post("/api/v1/events", json=CLICK, headers=bearer("ingest"))
            assert len(stand.logged()) == 2

    @pytest.mark.parametrize("value", ["NaN", "1e999", '"9"', "[1]", "1" * 400])
    async def test_a_reward_that_is_no_number_is_not_taken(self, value: str) -> None:
        body = '{"type":"interaction","user_id":"a","kind":"reward","content_id":1,"value":%s}' % value  # noqa: UP031
        async with ingest() as stand:
            assert (await stand.post(body.encode())).status_code == 422
            assert stand.logged() == []


class TestApi7RequestForgery:
    async def test_no_address_from_a_request_is_ever_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[object] = []
        monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: asked.append(given))
        monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
        target = "http://169.254.169.254/latest/meta-data"
        async with ingest() as stand:
            body = {"title": target, "description": target, "url": target, "image_url": target, "type": target[:60]}
            assert (await stand.put(1, body)).status_code == 200
            await stand.post({**CLICK, "user_id": target})
        assert asked == []


class TestApi8Misconfiguration:
    def test_the_network_is_not_answered_without_keys(self) -> None:
        for setting in ("MOARD_SERVING_HOST", "MOARD_INGEST_HOST"):
            with pytest.raises(RefusedStart, match="moard keys create"):
                refuse_unsafe_bind("0.0.0.0", False, setting, MemoryKeyStore)

    async def test_errors_tell_nothing_of_the_inside(
        self, world: WorldFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with world() as w:
            monkeypatch.setattr(w.serving.users, "_history", None)
            answer = await w.client.post(RANK, json={"user_id": "a", "candidates": [1]})
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert not re.search("Traceback|NoneType|Error:|\\.py", answer.text)

    async def test_pages_of_others_are_kept_out(self, world: WorldFactory) -> None:
        evil = {"origin": "https://evil.example"}
        async with world() as w:
            answer = await w.client.post(RANK, json={"user_id": "a", "candidates": [1]}, headers=evil)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
            page = await w.client.get("/docs")
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        async with ingest() as stand:
            assert (await stand.client.post("/api/v1/events", json=CLICK, headers=evil)).status_code == 403
            assert stand.logged() == []

    async def test_a_listed_page_may_send_its_key(self, world: WorldFactory) -> None:
        asks = {
            "origin": "https://admin.example",
            "access-control-request-method": "DELETE",
            "access-control-request-headers": "authorization",
        }
        async with world(keys=table(), serving_cors_origins="https://admin.example") as w:
            preflight = await w.client.options("/api/v1/model/x", headers=asks)
            assert preflight.status_code == 200
            assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
            refused = await w.client.get("/api/v1/model/list", headers={"origin": "https://admin.example"})
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (
                401,
                "https://admin.example",
            )


class TestApi9Inventory:
    async def test_every_call_is_documented_with_who_may_and_how_it_refuses(self, world: WorldFactory) -> None:
        async with world() as w:
            documents = [(await w.client.get("/openapi.json")).json()]
        async with ingest() as stand:
            documents.append((await stand.client.get("/openapi.json")).json())
        for document in documents:
            for path, item in document["paths"].items():
                for method, operation in item.items():
                    scope = scope_of(method.upper(), path)
                    assert (scope is None) == (not path.startswith("/api/"))
                    if scope is not None:
                        assert operation["security"] == [{"key": [scope]}, {}]
                        assert operation["responses"].keys() >= {"401", "403", "429", "503"}
                    if "requestBody" in operation:
                        assert operation["responses"].keys() >= {"400", "408", "413", "415", "422"}

    @pytest.mark.parametrize(
        "path", ["/api/rank", "/api/v0/rank", "/api/v2/rank", "/debug", "/admin", "/config", "/.env"]
    )
    async def test_nothing_else_is_there(self, world: WorldFactory, path: str) -> None:
        async with world(keys=table()) as w:
            assert (await w.client.post(path)).status_code == 401
            assert (await w.client.post(path, headers=bearer("admin"))).status_code == 404


class TestApi10UnsafeConsumption:
    """What Kafka, Redis and SQL hand over is checked like what clients send."""

    async def test_a_broken_record_is_not_a_content(self, world: WorldFactory) -> None:
        async with world() as w:
            for value in (b"\xff\x00", b"[" * 100_000, b'{"content_id":"../x"}', b"null"):
                w.log.append(Outgoing(CONTENTS, b"5", value))
            await w.put(Content(content_id=1, embedding=vector(1)))
            assert len(w.serving.contents) == 1

    async def test_a_snapshot_that_is_not_what_it_says_never_serves(self, world: WorldFactory) -> None:
        async with world() as w:
            await w.publish(1_000)
            snapshot = random_snapshot((1,), VECTOR, seed=2)
            blob = encode(snapshot)
            await w.snapshots.publish(meta_of(snapshot, blob, 2_000), blob[:-1] + bytes([blob[-1] ^ 1]))
            await until(lambda: w.metric("moard_serving_snapshot_rejected_total", reason="sha256") == 1)
            assert w.version == 1_000
