"""Training tasks when something is away, dies, or is wrong: they end, and nothing is lost."""

from collections import Counter
from dataclasses import replace

import httpx
import pytest

from libs.adapters.memory import MemoryTaskStore
from libs.adapters.training_ports import Cursor
from tests.unit.serving.legacy_rows import appended, learn, legacy_log, user
from tests.unit.serving.training_calls import ask, ended, hurry, started, status, streamed
from tests.unit.serving.world import WorldFactory, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_without_a_learner_a_task_fails_and_says_so(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(5), serving_training_patience_ms=1) as w:
        task = await ended(w, await started(w))
        assert (task["status"], task["processed_interactions"]) == ("failed", 0)
        assert "learner" in task["error"]
        assert task["end_time"] is not None


async def test_without_a_broker_a_task_fails_and_the_next_streams_all(world: WorldFactory) -> None:
    legacy = legacy_log(5)
    async with world(legacy=legacy, serving_training_patience_ms=1) as w:
        w.log.available = False
        failed = await ended(w, await started(w))
        assert (failed["status"], w.tasks.lease.cursor.recommendation_id) == ("failed", 0)
        assert "broker" in failed["error"]
    async with world(legacy=legacy, tasks=w.tasks) as w:
        task_id = await started(w)
        await streamed(w, Cursor(5, 51))
        await learn(w)
        assert (await ended(w, task_id))["processed_interactions"] == 10


async def test_a_database_that_is_away_is_503_and_waited_for(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(5)) as w:
        task_id = await started(w)
        w.tasks.available = False
        for method, path in (
            ("GET", "tasks"),
            ("POST", "async-train"),
            ("POST", "collect-training-data"),
            ("GET", f"async-batch-status/{task_id}"),
            ("DELETE", f"async-batch-status/{task_id}"),
        ):
            await ask(w, method, path, 503)
        w.tasks.available = True
        w.serving.training.lookout.wake()
        await streamed(w, Cursor(5, 51))
        await learn(w)
        assert (await ended(w, task_id))["status"] == "completed"


async def test_a_worker_that_takes_over_goes_on_where_the_other_stopped(world: WorldFactory) -> None:
    legacy, tasks = legacy_log(400), MemoryTaskStore()
    async with world(legacy=legacy, tasks=tasks, serving_training_pace=100_000) as w:
        task_id = await started(w, "batch_size=20")
        await until(lambda: tasks.lease.cursor.recommendation_id > 20)
        log, snapshots = w.log, w.snapshots
        tasks.release = _never  # type: ignore[method-assign]  # as when the process is killed
    assert 20 < tasks.lease.cursor.recommendation_id < 400
    del tasks.release
    async with world(legacy=legacy, tasks=tasks, log=log, snapshots=snapshots, serving_training_pace=100_000) as w:
        assert (await status(w, task_id))["status"] == "processing"
        cursor = tasks.lease.cursor
        assert await tasks.claim("a third", 0, 1) is None
        assert tasks.lease.cursor == cursor  # the lease of the dead one lasts
        tasks.lease = tasks.lease.__class__(tasks.lease.owner, 0, cursor)  # time goes by
        w.serving.training.lookout.wake()
        await streamed(w, Cursor(400, 4_001))
        await learn(w)
        task = await ended(w, task_id)
        assert (task["total_interactions"], task["processed_interactions"]) == (800, 800)
        await until(lambda: tasks.lease.owner == "")
        counts = Counter(event.event_id for event in appended(w))
        assert len(counts) == 1_200
        assert sum(counts.values()) <= 1_200 + 3 * 20  # one page at most came twice


async def test_a_fault_ends_the_task_and_nothing_else(world: WorldFactory) -> None:
    legacy = legacy_log(1)
    legacy.rows[0] = legacy.rows[0].__class__(10, user(1), "click", None, 1)  # type: ignore[arg-type]
    legacy.count = _faulty  # type: ignore[method-assign]
    async with world(legacy=legacy) as w:
        task = await ended(w, await started(w))
        assert task["status"] == "failed"
        assert "ZeroDivisionError" in task["error"]
        assert (await w.client.get("/healthz")).status_code == httpx.codes.OK


async def _never(owner: str) -> None: ...


async def _faulty(after: Cursor, until: Cursor) -> int:
    return 1 // 0


async def test_a_worker_that_lost_its_lease_writes_nothing(world: WorldFactory) -> None:
    tasks = MemoryTaskStore()
    async with world(legacy=legacy_log(100), tasks=tasks, serving_training_pace=1_000) as w:
        await started(w, "batch_size=20")
        await until(lambda: tasks.lease.cursor.recommendation_id >= 20)
        elsewhere = Cursor(90, 1_001)
        tasks.lease = tasks.lease.__class__("another", 2**60, elsewhere)
        await until(lambda: len(appended(w)) > 60)  # what it was at came through once more
        await learn(w)
        assert tasks.lease.cursor == elsewhere
        assert tasks.lease.owner == "another"


async def test_a_task_that_another_worker_just_ended_is_left_alone(world: WorldFactory) -> None:
    class Beaten(MemoryTaskStore):
        """Another worker ends the task between this one's look and its claim."""

        async def claim(self, owner: str, now_ms: int, until_ms: int) -> Cursor | None:
            for task in await self.newest(1):
                await self.add(replace(task, status="completed", message="by another"))
            return await super().claim(owner, now_ms, until_ms)

    async with world(legacy=legacy_log(5), tasks=Beaten()) as w:
        task = await ended(w, await started(w))
        await until(lambda: w.tasks.lease.owner == "")  # given back: the others need not wait for it to expire
        assert task["message"] == "by another"
        assert appended(w) == []


async def test_a_task_removed_while_it_runs_lets_the_next_one_go_on(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(60), serving_training_pace=1_000) as w:
        first = await started(w, "batch_size=20")
        await until(lambda: w.tasks.lease.cursor.recommendation_id >= 20)
        await ask(w, "DELETE", f"async-batch-status/{first}")
        second = await started(w)
        await streamed(w, Cursor(60, 601))
        await learn(w)
        task = await ended(w, second)
        assert task["status"] == "completed"
        assert 0 < task["total_interactions"] < 120  # the rest: what the first had streamed stays streamed
        assert len(appended(w)) == 180
