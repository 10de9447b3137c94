"""The legacy training calls, over the in-memory twins and a learner that the test plays."""

import asyncio
import time
from collections import Counter

import pytest

from libs.adapters.memory import MemoryLegacyLog, MemoryTaskStore
from libs.adapters.training_ports import Cursor, TrainingTask
from libs.errors import NoSnapshot
from libs.events.schema import Impression, Interaction
from services.serving import training_worker
from tests.unit.serving.legacy_rows import AWAY, NotingKeeper, act, appended, learn, legacy_log, recommend, user
from tests.unit.serving.training_calls import CALLS, ask, ended, hurry, started, status, streamed, when
from tests.unit.serving.world import WorldFactory


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_task_streams_everything_and_ends_when_it_is_learned(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(50)) as w:
        task_id = await started(w)
        await streamed(w, Cursor(50, 501))
        task = await status(w, task_id)
        assert (task["status"], task["total_interactions"], task["processed_interactions"]) == ("processing", 100, 0)
        assert (task["end_time"], task["results"], task["total_loss"], task["error"]) == (None, None, None, None)
        await learn(w, loss=0.5, q_mean=0.25)
        task = await ended(w, task_id)
        assert (task["status"], task["total_interactions"], task["processed_interactions"]) == ("completed", 100, 100)
        assert (task["results"], task["total_loss"]) == ([{"q_value": 0.25, "loss": 0.5}], 0.5)
        assert (task["save_path"], task["error"]) == (None, None)
        assert task["start_time"] < task["end_time"]
        events = appended(w)
        assert Counter(type(event) for event in events) == {Impression: 50, Interaction: 100}
        assert len({event.event_id for event in events}) == 150
        assert await ask(w, "GET", "tasks") == [task]


async def test_progress_is_what_snapshots_contain(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(50)) as w:
        await learn(w)  # before the task: says nothing about it
        task_id = await started(w)
        await streamed(w, Cursor(50, 501))
        partial = {"moard.events:0": 10**9}
        contained = sum(
            isinstance(event, Interaction)
            for event, record in zip(appended(w), w.log.records("moard.events"), strict=True)
            if record.partition == 0
        )
        assert 0 < contained < 100
        await learn(w, offsets=partial, loss=None)
        task = await when(w, task_id, lambda task: task["processed_interactions"] > 0)
        assert (task["processed_interactions"], task["status"]) == (contained, "processing")
        assert (task["results"], task["total_loss"]) == (None, None)  # that snapshot did not say
        await learn(w, loss=2.0)
        task = await ended(w, task_id)
        assert (task["processed_interactions"], task["total_loss"]) == (100, 2.0)


async def test_repeating_appends_nothing(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(30)) as w:
        first = await started(w)
        await streamed(w, Cursor(30, 301))
        await learn(w)
        await ended(w, first)
        count = len(appended(w))
        again = await ended(w, await started(w))
        assert (again["status"], again["total_interactions"], again["processed_interactions"]) == ("completed", 0, 0)
        assert (again["total_loss"], again["results"]) == (None, None)
        assert len(appended(w)) == count


async def test_what_came_later_is_streamed_once(world: WorldFactory) -> None:
    legacy = legacy_log(3)
    async with world(legacy=legacy) as w:
        first = await started(w)
        await streamed(w, Cursor(3, 31))
        await learn(w)
        await ended(w, first)
        act(legacy, 100, 2, recommendation=2)  # for a recommendation streamed before
        act(legacy, 101, 7, recommendation=None)
        recommend(legacy, 4, logs=1)
        legacy.rows[-1] = legacy.rows[-1].__class__(102, user(4), "click", 4, 4)
        second = await started(w)
        await streamed(w, Cursor(4, 102))
        await learn(w)
        assert (await ended(w, second))["processed_interactions"] == 3
        counts = Counter(event.event_id for event in appended(w))
        assert set(counts.values()) == {1}
        late = {event.event_id: event for event in appended(w)}
        assert isinstance(late["legacy-log-100"], Interaction)
        assert late["legacy-log-100"].impression_id == "legacy-recommendation-2"
        assert isinstance(late["legacy-log-101"], Interaction)
        assert late["legacy-log-101"].impression_id is None


async def test_impressions_alone_are_followed_too(world: WorldFactory) -> None:
    legacy = legacy_log(3)
    legacy.rows.clear()
    async with world(legacy=legacy) as w:
        task_id = await started(w)
        await streamed(w, Cursor(3, 0))
        assert (await status(w, task_id))["status"] == "processing"
        await learn(w)
        assert (await ended(w, task_id))["status"] == "completed"
        assert len(appended(w)) == 3


async def test_the_model_is_kept_under_a_name_that_can_be_named(world: WorldFactory) -> None:
    keeper = NotingKeeper(fails=[AWAY])
    async with world(legacy=legacy_log(3), keeper=keeper) as w:
        task_id = await started(w, "batch_size=2&save_model=true")
        await streamed(w, Cursor(3, 31))
        await learn(w)
        w.serving.training.lookout.wake()
        task = await ended(w, task_id)
        ((name, _, request_id),) = keeper.kept
        assert (task["save_path"], request_id) == (f"models/{name}", task_id)
        assert name.startswith("legacy-train-20")
        assert name.endswith(task_id[:8])


async def test_a_model_that_cannot_be_kept_is_told(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(0), keeper=NotingKeeper(fails=[NoSnapshot("nothing was learned yet")])) as w:
        task = await ended(w, await started(w, "save_model=true"))
        assert (task["status"], task["save_path"]) == ("completed", None)
        assert "nothing was learned yet" in task["error"]


async def test_one_task_at_a_time_in_the_order_they_came(world: WorldFactory) -> None:
    legacy = legacy_log(5)
    async with world(legacy=legacy) as w:
        first = await started(w)
        await streamed(w, Cursor(5, 51))
        recommend(legacy, 6)
        second = await started(w)
        assert (await status(w, second))["total_interactions"] == 0
        await learn(w)
        await ended(w, first)
        await streamed(w, Cursor(6, 61))
        await learn(w)
        assert (await ended(w, second))["processed_interactions"] == 2
        assert [task["task_id"] for task in await ask(w, "GET", "tasks")] == [second, first]


async def test_train_waits_for_the_next_recommendations(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(50)) as w:
        assert (await ask(w, "POST", "collect-training-data?batch_size=10"))["data_count"] == 20
        assert (await ask(w, "POST", "collect-training-data?batch_size=1000"))["data_count"] == 100
        assert appended(w) == []
        call = asyncio.create_task(ask(w, "POST", "train?batch_size=10"))
        await streamed(w, Cursor(10, 501))
        await learn(w, loss=0.75)
        answer = await call
        assert answer.keys() == {"message", "processed_count", "total_loss"}
        assert (answer["processed_count"], answer["total_loss"]) == (20, 0.75)
        assert (await ask(w, "POST", "collect-training-data?batch_size=10"))["data_count"] == 20


async def test_train_without_data(world: WorldFactory) -> None:
    async with world(legacy=MemoryLegacyLog()) as w:
        answer = await ask(w, "POST", "train?batch_size=10")
        assert (answer["processed_count"], answer["total_loss"]) == (0, 0.0)
        assert (await ask(w, "POST", "collect-training-data?batch_size=10"))["data_count"] == 0


async def test_train_answers_in_time_and_the_task_goes_on(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(5), serving_train_wait_ms=50) as w:
        answer = await ask(w, "POST", "train?batch_size=10")
        assert (answer["processed_count"], answer["total_loss"]) == (0, None)
        (task,) = await ask(w, "GET", "tasks")
        assert task["task_id"] in answer["message"]
        await streamed(w, Cursor(5, 51))
        await learn(w)
        assert (await ended(w, task["task_id"]))["processed_interactions"] == 10


@pytest.mark.parametrize("call", ["async-train", "train", "collect-training-data"])
@pytest.mark.parametrize("size", ["0", "-1", "ten", "1.5", "", "99999999999999999999"])
async def test_a_batch_size_must_be_a_positive_integer(world: WorldFactory, call: str, size: str) -> None:
    async with world() as w:
        answer = await ask(w, "POST", f"{call}?batch_size={size}", 422)
        assert answer["detail"][0]["loc"] == ["query", "batch_size"]
        assert await ask(w, "GET", "tasks") == []


async def test_a_task_can_be_forgotten_once(world: WorldFactory) -> None:
    async with world(legacy=legacy_log(5)) as w:
        assert await ask(w, "GET", "tasks") == []
        task_id = await started(w)
        assert (await ask(w, "DELETE", f"async-batch-status/{task_id}")).keys() == {"message"}
        for method in ("GET", "DELETE"):
            await ask(w, method, f"async-batch-status/{task_id}", 404)
        assert await ask(w, "GET", "tasks") == []


@pytest.mark.parametrize("task_id", ["x", "0" * 5_000, "%00", "..%2Fx", str(user(1))])
async def test_an_unknown_task_is_404(world: WorldFactory, task_id: str) -> None:
    async with world() as w:
        await ask(w, "GET", f"async-batch-status/{task_id}", 404)
        await ask(w, "DELETE", f"async-batch-status/{task_id}", 404)


async def test_a_page_elsewhere_may_ask(world: WorldFactory) -> None:
    async with world() as w:
        headers = {"origin": "http://localhost:3000"}
        for call in (
            w.client.get(f"{CALLS}/tasks", headers=headers),
            w.client.delete(f"{CALLS}/async-batch-status/x", headers=headers),
        ):
            assert (await call).headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_tasks_that_ended_long_ago_are_forgotten(world: WorldFactory) -> None:
    day_ms, now_ms = 86_400_000, time.time_ns() // 1_000_000
    tasks = MemoryTaskStore()
    for task_id, days in (("old", 8), ("young", 6)):
        ended_ms = now_ms - days * day_ms
        await tasks.add(TrainingTask(task_id, ended_ms, 10, status="completed", ended_ms=ended_ms))
    async with world(tasks=tasks, serving_task_retention_days=7) as w:
        async with asyncio.timeout(20):
            while len(await tasks.newest(10)) > 1:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.005)
        assert [task["task_id"] for task in await ask(w, "GET", "tasks")] == ["young"]


async def test_late_logs_are_paced_as_recommendations_are(world: WorldFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    legacy = MemoryLegacyLog()
    for number in range(1, 11):
        act(legacy, number, number, recommendation=None)
    async with world(legacy=legacy, serving_training_pace=1.0) as w:
        monkeypatch.setattr(training_worker, "asyncio", Pauses(pauses))
        task_id = await started(w)
        await streamed(w, Cursor(0, 10))
        await learn(w)
        assert (await ended(w, task_id))["processed_interactions"] == 10
    assert 9 < max(pauses) <= 10  # one a second


async def test_a_page_is_at_most_a_second_of_the_pace(world: WorldFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    async with world(legacy=legacy_log(30), serving_training_pace=10.0) as w:
        monkeypatch.setattr(training_worker, "asyncio", Pauses(pauses))
        task_id = await started(w)
        await streamed(w, Cursor(30, 301))
        await learn(w)
        assert (await ended(w, task_id))["processed_interactions"] == 60
    assert len([pause for pause in pauses if 0.5 < pause <= 1]) == 3


class Pauses:
    """``asyncio`` that notes how long it should sleep, and does not."""

    def __init__(self, noted: list[float]) -> None:
        self._noted = noted

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        self._noted.append(seconds)
        await asyncio.sleep(0)
