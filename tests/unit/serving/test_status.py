"""What a serving worker says of itself."""

import orjson

from libs.adapters.status import MemoryStatusBoard
from libs.events.schema import Content
from tests.unit.serving.world import WorldFactory, until, vector


class CountingBoard(MemoryStatusBoard):
    posts = 0

    async def put(self, service: str, instance: str, status: bytes) -> None:
        await super().put(service, instance, status)
        self.posts += 1


async def test_a_worker_is_on_the_board_with_what_it_ranks_with(world: WorldFactory) -> None:
    board = CountingBoard()
    async with world(board=board, serving_port=8123) as w:
        await w.put(Content(content_id=1, title="one", embedding=vector(1)))
        await w.publish(version=1_234)
        await w.client.post("/api/v1/rank", json={"user_id": "ann", "candidates": [1]})
        posts = board.posts
        await until(lambda: board.posts > posts + 1)
        [posted] = await board.all()
    status = orjson.loads(posted.status)
    assert posted.service == "serving"
    assert posted.instance.endswith(":8123")
    assert status["health"] == {"state": "ok", "waiting_for": [], "alarms": []}
    assert status["snapshot"]["version"] == 1_234
    assert status["snapshot"]["pin"] is None
    assert [(ranking["arm"], ranking["count"]) for ranking in status["rankings"]] != []
    assert status["freshness"]["counts"][-1] == 0
    assert status["degraded"]["snapshot"] == 0
    assert status["settings"]["MOARD_SERVING_PORT"] == 8123
    assert await board.all() == []


async def test_a_worker_that_is_not_ready_says_what_it_waits_for(world: WorldFactory) -> None:
    board = CountingBoard()
    async with world(board=board, wait_ready=False):
        await until(lambda: board.posts)
        [posted] = await board.all()
    health = orjson.loads(posted.status)["health"]
    assert health["state"] == "starting"
    assert "warm-up" in health["waiting_for"]
