"""The process that works on training tasks, put together: adapters, worker, and the line to serving."""

import asyncio
import contextlib
import sys

from libs.adapters.event_log import KafkaProducer
from libs.adapters.legacy_log import SqlLegacyLog
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.task_store import SqlTaskStore
from services.serving.administration import administration
from services.serving.settings import Settings
from services.serving.training_lookout import until_none_is_left
from services.serving.training_worker import TrainingPorts, TrainingWorker


class _Keeper:
    """Keeps snapshots as the model calls do; connects when it has to, as few tasks ask for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def keep(self, name: str, actor: str, request_id: str) -> int:
        async with administration(self._settings) as models:
            return await models.keep(name, actor, request_id)


async def work(settings: Settings, owner: str) -> None:
    """Work on tasks until none is left, or standard input is closed. ``owner`` holds the lease."""
    ports = TrainingPorts(
        SqlTaskStore(settings.database_url),
        SqlLegacyLog(settings.database_url),
        KafkaProducer(settings.kafka),
        RedisSnapshotStore(settings.redis_url, settings.model_name),
        _Keeper(settings),
    )
    worker = TrainingWorker(ports, settings, owner)
    working = asyncio.create_task(until_none_is_left(worker.turn))
    following = asyncio.create_task(_follow(working))
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await working
    finally:
        following.cancel()
        await worker.release()  # it may have been told to stop while it was giving it back
        await ports.close()


async def _follow(working: asyncio.Task[None]) -> None:
    """Stop working when whoever started this closes the line, or is gone."""
    line = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(line), sys.stdin)
    await line.read()
    working.cancel()
