"""The whole run against one small HTTP server that plays all three services."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples.movielens import live as module
from examples.movielens.dataset import Movie
from examples.movielens.live import Addresses, Live, NotSettled
from examples.movielens.pace import PaceSettings
from examples.movielens.protocol import Request, Turn
from examples.movielens.view import Frame
from libs.errors import MoardError

CONTENTS = [Movie(number, f"Movie {number}", "1997", ("Drama",)) for number in range(1, 13)]
TURNS = [
    Turn(user, user, 0, user - 1, Request(user - 1, user, (user, 12), tuple(range(12, 0, -1)))) for user in range(1, 11)
]
PACE = PaceSettings(requests_per_s=10_000.0)


class Stack:
    """Ranks the candidates as they come, and counts what it is told."""

    def __init__(self) -> None:
        self.contents: list[int] = []
        self.rankings = 0
        self.events: list[dict[str, Any]] = []
        self.lag = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.put("/api/v1/contents/{id}", self.put),
                web.post("/api/v1/rank", self.rank),
                web.post("/api/v1/events", self.post),
                web.get("/metrics", self.metrics),
            ]
        )
        return app

    async def put(self, request: web.Request) -> web.Response:
        self.contents.append(int(request.match_info["id"]))
        return web.json_response({})

    async def rank(self, request: web.Request) -> web.Response:
        assert len(self.contents) == len(CONTENTS), "contents come before requests"
        body = await request.json()
        self.rankings += 1
        slate = [{"content_id": content_id} for content_id in body["candidates"][: body["size"]]]
        return web.json_response({"impression_id": "i", "slate": slate, "policy": "value", "snapshot_version": 5})

    async def post(self, request: web.Request) -> web.Response:
        self.events += (await request.json())["events"]
        return web.json_response({"errors": []}, status=202)

    async def metrics(self, request: web.Request) -> web.Response:
        series = {
            "moard_serving_contents": len(self.contents),
            "moard_serving_impressions_total": self.rankings,
            'moard_ingest_events_total{result="accepted"}': len(self.events),
            'moard_learner_interactions_total{outcome="joined"}': len(self.events),
            "moard_learner_impressions_total": self.rankings,
            'moard_learner_consumer_lag_records{topic="moard.events",partition="0"}': self.lag,
            "moard_serving_snapshot_version": 5,
        }
        return web.Response(text="".join(f"{name} {value}\n" for name, value in series.items()))


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stack, Addresses]]:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
    stack = Stack()
    async with TestServer(stack.app()) as server:
        url = str(server.make_url("")).rstrip("/")
        yield stack, Addresses(url, url, url)


def live(addresses: Addresses, frames: list[Frame], alive: Any = lambda: None) -> Live:
    return Live(addresses, TURNS, PACE, frames.append, alive, "r")


async def test_contents_go_in_the_stream_is_played_and_the_learner_drained(stack: tuple[Stack, Addresses]) -> None:
    server, addresses = stack
    frames: list[Frame] = []

    report = await live(addresses, frames).play(CONTENTS)

    assert sorted(server.contents) == [movie.content_id for movie in CONTENTS]
    # 12 is always among the six in front, and the other member only of the last four users.
    assert report.requests == 10
    assert report.clicks_per_request["moard"] == 2.0
    assert report.interactions == len(server.events) == 20
    assert report.interactions_settled == 20
    assert report.impressions == {"appended": 10, "dropped": 0, "learned": 10}
    assert report.snapshot_version == 5
    assert report.lag_records == 0
    assert frames[-1].stage == "done"


async def test_a_service_that_dies_ends_the_run_with_its_own_words(stack: tuple[Stack, Addresses]) -> None:
    class Died(MoardError):
        pass

    def alive() -> None:
        raise Died("learner ended with status 1")

    with pytest.raises(ExceptionGroup) as failure:
        await live(stack[1], [], alive).play(CONTENTS)

    assert failure.group_contains(Died, match="learner ended")


async def test_a_learner_that_stays_behind_fails_the_run(
    stack: tuple[Stack, Addresses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLE_DEADLINE_S", 0.2)
    stack[0].lag = 7

    with pytest.raises(ExceptionGroup) as failure:
        await live(stack[1], []).play(CONTENTS)

    assert failure.group_contains(NotSettled, match="still behind.*7 records")
