"""The client against a real HTTP server in this process."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples.movielens import client as module
from examples.movielens.client import CallFailed, Client, Ranked

ANSWER = {
    "impression_id": "i1",
    "slate": [{"content_id": 3, "score": 0.5, "propensity": 0.2}, {"content_id": 1, "score": 0.1, "propensity": 0.9}],
    "policy": "value",
    "arm": "policy",
    "snapshot_version": 7,
}


class Service:
    """Answers from a list, one a call, and keeps the bodies."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.bodies: list[tuple[str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append((f"{request.method} {request.path}", await request.json()))
        return self.answers.pop(0)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, Client]]:
    service, app = Service(), web.Application()
    app.router.add_route("*", "/{tail:.*}", service.handle)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        async with Client(serving=url, ingest=url, connections=4) as client:
            yield service, client


async def test_rank_asks_and_reads_as_documented(service: tuple[Service, Client]) -> None:
    server, client = service
    server.answers = [web.json_response(ANSWER)]

    ranked = await client.rank("u1", (1, 2, 3), 2)

    assert ranked == Ranked("i1", (3, 1), "value", 7)
    assert server.bodies == [("POST /api/v1/rank", {"user_id": "u1", "candidates": [1, 2, 3], "size": 2})]


async def test_a_503_is_repeated_with_the_same_event_ids(service: tuple[Service, Client]) -> None:
    server, client = service
    accepted = {"accepted": 1, "event_ids": ["e1"], "errors": []}
    server.answers = [
        web.json_response({}, status=503, headers={"Retry-After": "0"}),
        web.json_response(accepted, status=202),
    ]

    await client.post([{"event_id": "e1", "user_id": "u1"}])

    assert (
        server.bodies[0]
        == server.bodies[1]
        == ("POST /api/v1/events", {"events": [{"event_id": "e1", "user_id": "u1"}]})
    )
    assert client.retries == 1


async def test_a_refused_event_ends_the_run_with_its_reason(service: tuple[Service, Client]) -> None:
    server, client = service
    errors = [{"index": 0, "field": "kind", "reason": "unknown kind"}]
    server.answers = [web.json_response({"accepted": 0, "event_ids": [], "errors": errors}, status=202)]

    with pytest.raises(CallFailed, match="unknown kind"):
        await client.post([{"event_id": "e1"}])


async def test_a_4xx_is_not_repeated(service: tuple[Service, Client]) -> None:
    server, client = service
    server.answers = [web.json_response({"detail": "title is missing"}, status=422)]

    with pytest.raises(CallFailed, match="title is missing"):
        await client.put_content(1, "", "")

    assert server.bodies == [("PUT /api/v1/contents/1", {"title": "", "description": ""})]


async def test_a_service_that_stays_away_is_given_up(
    service: tuple[Service, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = service
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    server.answers = [web.json_response({}, status=503, headers={"Retry-After": "0"}) for _ in range(5)]

    with pytest.raises(CallFailed, match="503"):
        await client.rank("u1", (1,), 1)
