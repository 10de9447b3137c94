"""The stream of statuses: one look for all viewers, slow ones let go, an end when the process ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.requests import ClientDisconnect

from libs.adapters.keys import new_key
from libs.adapters.memory import MemoryKeyStore
from libs.adapters.ports import Outgoing
from libs.adapters.status import MemoryStatusBoard, Posted
from libs.errors import BadEvent, StoreUnavailable
from libs.events.dead_letters import dead_letter
from libs.events.topics import DEAD_LETTERS, EVENTS, Origin
from services.serving.console import stream
from services.serving.console.stream import EventStream, Hub
from tests.unit.serving.console.test_overview import part
from tests.unit.serving.world import World, WorldFactory, until


class CountedBoard(MemoryStatusBoard):
    """A board that counts its readers and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.away = False

    async def all(self) -> list[Posted]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable("away")
        return await super().all()


class Stand:
    """A hub, its board, and what it takes a pin for."""

    def __init__(self, every_s: float = 1.0) -> None:
        self.board = CountedBoard()
        self.pin: str | None = None
        self.hub = Hub(self.board, "here:1", self.own, lambda: self.pin, every_s)

    async def own(self) -> dict[str, Any]:
        return {"contents": 7}

    async def put(self, *services: str) -> None:
        for service in services:
            await self.board.put(service, "here:1", orjson.dumps(part(service)))


def _letter(reason: str, value: bytes) -> Outgoing:
    buried = dead_letter(b"ann", value, (), Origin(EVENTS, 0, 7), 1_000, BadEvent(reason, "why", "where"))
    return Outgoing(DEAD_LETTERS, buried.key, buried.value, buried.headers)


def read(event: bytes) -> tuple[str, dict[str, Any]]:
    name, data = event.decode().removesuffix("\n\n").split("\n")
    return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand = Stand(every_s=0.05)
    await stand.put("learner", "ingest", "serving")
    running = asyncio.create_task(stand.hub.run())
    yield stand
    running.cancel()
    await asyncio.wait([running])


async def test_a_viewer_gets_the_history_then_looks(stand: Stand) -> None:
    await until(lambda: stand.board.reads)
    messages = stand.hub.follow()
    assert read(await anext(messages))[0] == "history"
    for _ in range(3):
        name, look = read(await anext(messages))
        assert name == "look"
        assert {shown["service"] for shown in look["parts"]} == {"learner", "ingest", "serving"}
        assert look["seen_by"] == "here:1"
        assert look["problems"] == []
        own = next(shown for shown in look["parts"] if shown["service"] == "serving")
        assert own["contents"] == 7  # said directly, not by way of the board
    await messages.aclose()
    assert stand.hub.viewers == 0


async def test_many_viewers_cost_one_look(stand: Stand) -> None:
    viewers = [stand.hub.follow() for _ in range(20)]
    for viewer in viewers:
        await anext(viewer)
        await anext(viewer)
    reads = stand.board.reads
    looks = [await asyncio.gather(*(anext(viewer) for viewer in viewers)) for _ in range(5)]
    assert stand.board.reads - reads <= 6
    assert all(look == looks[-1][0] for look in looks[-1])
    for viewer in viewers:
        await viewer.aclose()


async def test_a_slow_viewer_misses_looks_and_gets_the_latest(stand: Stand) -> None:
    viewer = stand.hub.follow()
    for _ in range(2):
        await anext(viewer)
    reads = stand.board.reads
    await until(lambda: stand.board.reads > reads + 5)
    behind = read(await anext(viewer))[1]["at_ms"]
    assert read(stand.hub._latest)[1]["at_ms"] - behind < 100
    await viewer.aclose()


async def test_redis_away_keeps_what_was_said_and_lets_it_age(stand: Stand) -> None:
    await until(lambda: stand.board.reads)
    stand.board.away = True
    viewer = stand.hub.follow()
    await anext(viewer)
    ages: list[float] = []
    while len(ages) < 3:
        look = read(await anext(viewer))[1]
        if look["board_away"]:
            ages.append(next(shown["age_s"] for shown in look["parts"] if shown["service"] == "learner"))
            assert look["problems"][0]["part"] == "Redis"
    assert ages == sorted(ages)
    assert ages[0] < ages[-1]
    await viewer.aclose()


async def test_a_pin_is_told_at_once() -> None:
    stand = Stand(every_s=3_600.0)
    await stand.put("serving")
    running = asyncio.create_task(stand.hub.run())
    viewer = stand.hub.follow()
    for _ in range(2):
        await anext(viewer)
    stand.pin = "good"
    async with asyncio.timeout(20):
        assert read(await anext(viewer))[0] == "look"
    await viewer.aclose()
    running.cancel()
    await asyncio.wait([running])


async def test_what_cannot_be_understood_is_no_end(stand: Stand) -> None:
    await stand.board.put("learner", "odd", b"not json")
    reads = stand.board.reads
    await until(lambda: stand.board.reads > reads + 2)
    await stand.board.remove("learner", "odd")
    viewer = stand.hub.follow()
    for _ in range(3):
        await anext(viewer)
    await viewer.aclose()


async def test_a_stream_ends_when_the_process_does(stand: Stand) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return await asyncio.Event().wait()

    running = asyncio.create_task(EventStream(stand.hub)({"type": "http"}, receive, send))
    await until(lambda: len(sent) > 3)
    assert (b"content-type", b"text/event-stream; charset=utf-8") in sent[0]["headers"]
    stand.hub.leaving.set()
    async with asyncio.timeout(20):
        await running
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert stand.hub.viewers == 0


async def test_a_viewer_that_leaves_is_forgotten(stand: Stand) -> None:
    left = asyncio.Event()

    async def send(message: Any) -> None:
        pass

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    running = asyncio.create_task(EventStream(stand.hub)({"type": "http"}, receive, send))
    await until(lambda: stand.hub.viewers)
    left.set()
    async with asyncio.timeout(20):
        await running
    assert stand.hub.viewers == 0


async def test_a_viewer_that_takes_nothing_is_let_go(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PATIENCE_S", 0.05)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async with asyncio.timeout(20):
        with pytest.raises(ClientDisconnect):
            await EventStream(stand.hub)({"type": "http"}, receive, send)
    assert stand.hub.viewers == 0


async def test_the_page_is_open_and_what_it_shows_is_not(world: WorldFactory) -> None:
    keys = MemoryKeyStore()
    await keys.add(new_key("somebody", ["rank"])[1])
    async with world(keys=keys) as w:
        page = await w.client.get("/ui")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-cache"
        for path in ("/ui/stream", "/ui/data/settings", "/ui/data/dead-letters"):
            assert (await w.client.get(path)).status_code == 401, path


async def test_how_long_somebody_watched_is_no_latency(world: WorldFactory) -> None:
    async with world() as w:
        w.serving.hub.leaving.set()  # every stream ends after its first look
        answer = await w.client.get("/ui/stream")
        assert answer.text.startswith("event: history")
        await w.client.get("/ui")
        routes = {sample.labels["route"] for sample in _requests(w)}
    assert "/ui" in routes
    assert "/ui/stream" not in routes


def _requests(w: World) -> list[Any]:
    families = w.serving.registry.collect()
    return [each for family in families if family.name == "moard_http_request_seconds" for each in family.samples]


async def test_settings_and_dead_letters_can_be_looked_at(world: WorldFactory) -> None:
    async with world() as w:
        w.log.append(_letter("json", b"\xff{not json" + b"x" * 5_000))
        w.log.append(_letter("field", b"{}"))
        found = (await w.client.get("/ui/data/dead-letters", params={"reason": "json"})).json()["letters"]
        assert [letter["reason"] for letter in found] == ["json"]
        assert found[0]["value_bytes"] == 5_010
        assert len(found[0]["value"]) == 2_000
        assert len((await w.client.get("/ui/data/dead-letters")).json()["letters"]) == 2
        await until(lambda: w.serving.hub.overview.settings)
        settings = (await w.client.get("/ui/data/settings")).json()
        assert "MOARD_SERVING_PORT" in next(iter(settings.values()))


async def test_no_more_than_so_many_consoles_at_once(world: WorldFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        viewers = [w.serving.hub.follow() for _ in range(stream.VIEWERS)]
        for viewer in viewers:
            await anext(viewer)
        refused = await w.client.get("/ui/stream")
        assert refused.status_code == 503
        assert "close one" in refused.json()["detail"]
        for viewer in viewers:
            await viewer.aclose()
