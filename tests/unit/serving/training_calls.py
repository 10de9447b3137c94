"""The legacy training calls as a client makes them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from libs.adapters.training_ports import Cursor
from services.serving import backfill, training_worker
from tests.unit.serving.world import World, until

CALLS = "/api/v1/online-learning"
KEYS = {
    "task_id",
    "status",
    "start_time",
    "end_time",
    "total_interactions",
    "processed_interactions",
    "results",
    "total_loss",
    "error",
    "save_path",
    "message",
}


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.serving.training_worker._SETTLE_S", 0.0)
    monkeypatch.setattr(training_worker, "_LOOK_S", 0.01)
    monkeypatch.setattr(backfill, "_RETRY_S", 0.0)


async def ask(w: World, method: str, path: str, status: int = 200) -> Any:
    answer = await w.client.request(method, f"{CALLS}/{path}")
    assert answer.status_code == status, answer.text
    return answer.json()


async def started(w: World, query: str = "batch_size=100") -> str:
    answer = await ask(w, "POST", f"async-train?{query}")
    assert answer.keys() == {"task_id", "status", "message"}
    assert answer["status"] == "processing"
    return str(answer["task_id"])


async def status(w: World, task_id: str) -> dict[str, Any]:
    task = await ask(w, "GET", f"async-batch-status/{task_id}")
    assert task.keys() == KEYS
    return dict(task)


async def when(w: World, task_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not condition(task := await status(w, task_id)):  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.005)
    return task


async def ended(w: World, task_id: str) -> dict[str, Any]:
    return await when(w, task_id, lambda task: task["status"] != "processing")


async def streamed(w: World, cursor: Cursor) -> None:
    await until(lambda: w.tasks.lease.cursor == cursor)
