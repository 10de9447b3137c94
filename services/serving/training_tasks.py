"""The legacy training calls: tasks that stream the legacy tables and follow the learner (api.md §1 and §2)."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Query
from starlette.responses import Response

from libs.adapters.training_ports import LegacyLog, TaskStore, TrainingTask
from services.serving.bodies import answer
from services.serving.schemas import CollectAnswer, Message, TaskAnswer, TaskStarted, TrainAnswer
from services.serving.training_lookout import Lookout

_LISTED: Final = 100  # the page asks for all of them every three seconds
_POLL_S: Final = 0.25
_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such task."}}

BatchSize = Annotated[int, Query(gt=0, le=2**31 - 1, description="Recommendations.")]


@dataclass(frozen=True, slots=True)
class Training:
    """What the calls work with; ``wait_s`` bounds ``train``."""

    tasks: TaskStore
    legacy: LegacyLog
    lookout: Lookout
    wait_s: float


def training(parts: Training) -> APIRouter:
    """Return the routes over these parts."""
    router = APIRouter(tags=["training"], prefix="/online-learning")
    _add_training(router, parts)
    _add_tasks(router, parts.tasks)
    return router


def _add_training(router: APIRouter, parts: Training) -> None:
    @router.post("/async-train", response_model=TaskStarted)
    async def async_train(batch_size: BatchSize = 100, save_model: bool = False) -> Response:
        """Learn what the legacy tables hold and was not streamed yet, reading so many recommendations at a time."""
        task = await _add(parts, TrainingTask(str(uuid.uuid4()), _now_ms(), batch_size, save_model=save_model))
        message = f"task {task.task_id} streams what is new to the learner and follows it"
        return answer({"task_id": task.task_id, "status": task.status, "message": message})

    @router.post("/collect-training-data", response_model=CollectAnswer)
    async def collect(batch_size: BatchSize = 100) -> Response:
        """Count the interactions that ``train`` with this batch size would learn. Changes nothing."""
        after = await parts.tasks.cursor()
        until = await parts.legacy.bound(after, batch_size)
        count = await parts.legacy.count(after, until)
        return answer({"message": f"{count} interactions to learn", "data_count": count})

    @router.post("/train", response_model=TrainAnswer)
    async def train(batch_size: BatchSize = 100) -> Response:
        """Learn the next recommendations, and what came late for earlier ones; wait for it, within bounds."""
        task = await _add(parts, TrainingTask(str(uuid.uuid4()), _now_ms(), batch_size, batch_size))
        task = await _ended(parts, task)
        if task.status == "failed":
            raise HTTPException(503, task.error)
        loss = 0.0 if task.status == "completed" and not task.total else task.total_loss
        return answer({"message": _summary(task), "processed_count": task.processed, "total_loss": loss})


def _add_tasks(router: APIRouter, tasks: TaskStore) -> None:
    @router.get("/tasks", response_model=list[TaskAnswer])
    async def newest() -> Response:
        """List the newest 100 tasks, newest first."""
        return answer([_presented(task) for task in await tasks.newest(_LISTED)])

    @router.get("/async-batch-status/{task_id}", response_model=TaskAnswer, responses=_UNKNOWN)
    async def status(task_id: str) -> Response:
        """Return one task."""
        task = await tasks.get(_checked(task_id))
        if task is None:
            raise HTTPException(404, "Task not found")
        return answer(_presented(task))

    @router.delete("/async-batch-status/{task_id}", response_model=Message, responses=_UNKNOWN)
    async def remove(task_id: str) -> Response:
        """Forget a task. One that runs stops streaming; what the broker has is learned all the same."""
        if not await tasks.remove(_checked(task_id)):
            raise HTTPException(404, "Task not found")
        return answer({"message": f"task {task_id} was deleted"})


async def _add(parts: Training, task: TrainingTask) -> TrainingTask:
    await parts.tasks.add(task)
    parts.lookout.wake()
    return task


async def _ended(parts: Training, task: TrainingTask) -> TrainingTask:
    """Return the task when it has ended, or as it is when the time is up."""
    deadline = time.monotonic() + parts.wait_s
    while task.status == "processing" and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        found = await parts.tasks.get(task.task_id)
        if found is None:
            raise HTTPException(404, "The task was deleted while this call waited for it")
        task = found
    return task


def _summary(task: TrainingTask) -> str:
    if task.status == "processing":
        return f"learned {task.processed} of {task.total} interactions so far; task {task.task_id} goes on"
    return f"learned {task.processed} interactions" if task.total else "nothing new to learn from"


def _presented(task: TrainingTask) -> dict[str, Any]:
    return {
        "task_id": task.task_id,
        "status": task.status,
        "start_time": _iso(task.created_ms),
        "end_time": None if task.ended_ms is None else _iso(task.ended_ms),
        "total_interactions": task.total,
        "processed_interactions": task.processed,
        "results": [{"q_value": q_value, "loss": loss} for q_value, loss in task.results] or None,
        "total_loss": task.total_loss,
        "error": task.error,
        "save_path": task.save_path,
        "message": task.message or "waiting for its turn",
    }


def _checked(task_id: str) -> str:
    """Return the id as this service writes it; what cannot be one is not looked up."""
    try:
        return str(uuid.UUID(task_id))
    except ValueError:
        raise HTTPException(404, "Task not found") from None


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
