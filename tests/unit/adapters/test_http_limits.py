"""What a request may cost: each limit answers by itself, counts why, and comes before the body is read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from libs.adapters.access import Callers
from libs.adapters.http_limits import HEAD_MAX_BYTES, TokenBuckets
from libs.adapters.http_settings import Limits
from libs.adapters.keys import KeyRing, new_key
from libs.adapters.memory import MemoryKeyStore
from tests.unit.adapters.edge import Edged


async def endless(release: asyncio.Event, entered: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"x"
    entered.set()
    await release.wait()
    yield b"y"


async def post_slowly(edged: Edged, body: AsyncIterator[bytes]) -> httpx.Response:
    """Post a body that comes as its iterator lets it: the client's own transport would wait for all of it."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        chunk = await anext(body, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def collect(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/x", "raw_path": b"/api/v1/x", "query_string": b""}
    await edged.app({**scope, "headers": [], "server": ("t", 80), "client": ("127.0.0.1", 1)}, receive, collect)
    body_sent = b"".join(message.get("body", b"") for message in sent)
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=body_sent)


class TestConcurrency:
    async def test_one_more_than_allowed_gets_503_unread_and_probes_go_on(self) -> None:
        edged = Edged(limits=Limits(concurrent_requests=2))
        release, entered = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
        running = [asyncio.create_task(post_slowly(edged, endless(release, each))) for each in entered]
        for each in entered:
            await each.wait()
        async with edged.client() as client:
            answer = await client.post("/api/v1/x", content=b"never read")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
            assert (await client.get("/healthz")).status_code == 200
            assert edged.refused("concurrency") == 1
            release.set()
            assert [(await task).status_code for task in running] == [200, 200]
            assert (await client.post("/api/v1/x")).status_code == 200

    async def test_failures_give_their_place_back(self) -> None:
        edged = Edged(limits=Limits(concurrent_requests=1))
        async with edged.client() as client:
            edged.broken = True
            assert (await client.post("/api/v1/x")).status_code == 500
            assert (await client.post("/api/v1/x", content=b"x" * 101)).status_code == 413
            edged.broken = False
            assert (await client.post("/api/v1/x")).status_code == 200


class TestRate:
    def test_a_bucket_holds_a_burst_and_fills_at_its_rate(self) -> None:
        now = 100.0
        buckets = TokenBuckets(2.0, burst=3, clock_s=lambda: now)
        assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
        assert buckets.take("b") == 0.0
        now = 100.25
        assert buckets.take("a") == pytest.approx(0.25)
        now = 100.5
        assert buckets.take("a") == 0.0
        now = 1_000.0
        assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]

    def test_many_callers_do_not_fill_the_memory(self) -> None:
        buckets = TokenBuckets(1.0, burst=1, limit=10, clock_s=lambda: 0.0)
        for caller in range(1_000):
            assert buckets.take(str(caller)) == 0.0
        assert len(buckets) == 10
        assert buckets.take("999") > 0

    async def test_a_caller_is_a_key(self) -> None:
        made = [new_key(name, ["rank"]) for name in ("a", "b")]
        ring = KeyRing(MemoryKeyStore(stored for _, stored in made))
        await ring.refresh()
        edged = Edged(Callers(ring), Limits(rate_per_s=0.001, rate_burst=2))
        (first, _), (second, _) = made
        async with edged.client() as client:

            async def ask(key: str) -> httpx.Response:
                return await client.post("/api/v1/rank", headers={"authorization": f"Bearer {key}"})

            assert [(await ask(first)).status_code for _ in range(3)] == [200, 200, 429]
            assert (await ask(second)).status_code == 200
            refused = await ask(first)
            assert 900 <= int(refused.headers["retry-after"]) <= 1_000
            assert refused.json()["status"] == 429
            assert (await client.get("/readyz")).status_code == 200
            assert edged.refused("rate") == 2
            # An invalid key spends nobody's tokens.
            assert [(await ask(second + "x")).status_code for _ in range(5)] == [401] * 5
            assert (await ask(second)).status_code == 200

    async def test_or_an_address_where_nobody_is_asked_for_one(self) -> None:
        edged = Edged(limits=Limits(rate_per_s=0.001, rate_burst=1))
        async with edged.client() as client:
            headers = {"x-forwarded-for": "10.0.0.1"}  # a header is no address
            assert [(await client.post("/api/v1/x", headers=headers)).status_code for _ in range(2)] == [200, 429]


class TestSizes:
    @pytest.mark.parametrize(
        ("path", "headers"),
        [
            ("/api/v1/" + "x" * HEAD_MAX_BYTES, {}),
            ("/api/v1/x?" + "q" * HEAD_MAX_BYTES, {}),
            ("/api/v1/x", {"x-large": "x" * HEAD_MAX_BYTES}),
            ("/api/v1/x", {"authorization": "Bearer " + "x" * HEAD_MAX_BYTES}),
            ("/api/v1/x", {f"x-{number}": "x" * 50 for number in range(1_000)}),
        ],
    )
    async def test_a_head_may_not_be_huge(self, path: str, headers: dict[str, str]) -> None:
        edged = Edged()
        async with edged.client(**headers) as client:
            answer = await client.get(path)
        assert (answer.status_code, edged.refused("head"), edged.entered) == (431, 1, 0)
        assert answer.json()["status"] == 431

    @pytest.mark.parametrize(
        ("media_type", "status"),
        [
            (None, 200),
            ("application/json", 200),
            ("APPLICATION/JSON; charset=utf-8", 200),
            ("application/problem+json", 200),
            ("application/octet-stream", 200),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("multipart/form-data; boundary=x", 415),
            ("application/xml", 415),
            ("", 415),
        ],
    )
    async def test_only_known_media_types_are_taken(self, media_type: str | None, status: int) -> None:
        edged = Edged()
        headers = {} if media_type is None else {"content-type": media_type}
        async with edged.client(**headers) as client:
            assert (await client.post("/api/v1/x", content=b"{}")).status_code == status
            assert (await client.post("/api/v1/x")).status_code == 200  # without a body there is nothing to mistake

    async def test_a_body_that_does_not_come_is_given_up(self) -> None:
        edged = Edged(limits=Limits(body_deadline_s=0.05))
        answer = await post_slowly(edged, endless(asyncio.Event(), asyncio.Event()))
        assert (answer.status_code, answer.headers["connection"]) == (408, "close")
        assert edged.refused("body_slow") == 1

    async def test_the_deadline_is_for_the_whole_body_not_for_each_piece(self) -> None:
        edged = Edged(limits=Limits(body_deadline_s=0.1), body_max_bytes=10_000)

        async def trickle() -> AsyncIterator[bytes]:
            for _ in range(10_000):
                yield b"x"
                await asyncio.sleep(0.01)

        assert (await post_slowly(edged, trickle())).status_code == 408

    @pytest.mark.parametrize("length", ["101", "9" * 18, "9" * 19])
    async def test_an_announced_length_is_believed(self, length: str) -> None:
        edged = Edged()
        async with edged.client(**{"content-length": length}) as client:
            assert (await client.post("/api/v1/x", content=b"x")).status_code == 413
        assert (edged.refused("body_long"), edged.entered) == (1, 0)
