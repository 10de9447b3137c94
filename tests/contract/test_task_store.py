"""What the training worker relies on of its store, held against MariaDB, SQLite and the twin."""

from dataclasses import replace

from libs.adapters.training_ports import Cursor, TaskStore, TrainingTask

FIRST = TrainingTask("a", created_ms=1_000, batch_size=100)
FULL = TrainingTask(
    "b",
    created_ms=2_000,
    batch_size=7,
    recommendations=7,
    save_model=True,
    status="failed",
    ended_ms=3_000,
    total=10,
    processed=4,
    results=((0.5, 1.25), (-1e-9, 3.0)),
    total_loss=0.125,
    error="ë 川",
    save_path="models/x",
    message="m",
    state="{}" * 40_000,
)


async def test_a_task_comes_back_whole(tasks: TaskStore) -> None:
    for task in (FIRST, FULL):
        await tasks.add(task)
    assert await tasks.get("a") == FIRST
    assert await tasks.get("b") == FULL
    assert await tasks.get("c") is None
    assert await tasks.newest(10) == [FULL, FIRST]
    assert await tasks.newest(1) == [FULL]


async def test_the_oldest_that_is_processing_is_next(tasks: TaskStore) -> None:
    assert await tasks.oldest_processing() is None
    for task in (FULL, replace(FIRST, task_id="later", created_ms=5_000), FIRST):
        await tasks.add(task)
    assert await tasks.oldest_processing() == FIRST


async def test_removed_tasks_are_gone_and_ended_ones_go_in_time(tasks: TaskStore) -> None:
    for task in (FIRST, FULL):
        await tasks.add(task)
    assert await tasks.forget_ended(3_000) == 0
    assert await tasks.forget_ended(3_001) == 1
    assert await tasks.remove("a")
    assert not await tasks.remove("a")
    assert await tasks.newest(10) == []


async def test_one_owner_at_a_time_until_its_lease_is_over(tasks: TaskStore) -> None:
    assert await tasks.claim("one", now_ms=100, until_ms=200) == Cursor(0, 0)
    assert await tasks.claim("two", now_ms=200, until_ms=300) is None
    assert await tasks.claim("one", now_ms=150, until_ms=250) == Cursor(0, 0)
    assert await tasks.claim("one", now_ms=150, until_ms=250) == Cursor(0, 0)  # the same again is no refusal
    assert await tasks.claim("two", now_ms=240, until_ms=300) is None
    assert await tasks.claim("two", now_ms=251, until_ms=300) == Cursor(0, 0)
    await tasks.release("one")  # not its any more
    assert await tasks.claim("one", now_ms=260, until_ms=300) is None
    await tasks.release("two")
    assert await tasks.claim("one", now_ms=260, until_ms=300) == Cursor(0, 0)


async def test_a_lost_lease_is_not_renewed(tasks: TaskStore) -> None:
    await tasks.claim("one", now_ms=100, until_ms=200)
    assert await tasks.renew("one", 300)
    assert await tasks.renew("one", 300)
    assert await tasks.claim("two", now_ms=250, until_ms=400) is None
    assert await tasks.claim("two", now_ms=301, until_ms=400) == Cursor(0, 0)
    assert not await tasks.renew("one", 500)
    await tasks.release("two")
    assert not await tasks.renew("one", 500)
    assert await tasks.claim("three", now_ms=302, until_ms=500) == Cursor(0, 0)


async def test_task_and_cursor_are_written_together_by_the_owner_alone(tasks: TaskStore) -> None:
    await tasks.add(FIRST)
    await tasks.claim("one", now_ms=100, until_ms=200)
    assert await tasks.save("one", 400, replace(FIRST, processed=3), Cursor(7, 9))
    assert await tasks.save("one", 400, replace(FIRST, processed=3), Cursor(7, 9))  # unchanged, and still its own
    assert await tasks.cursor() == Cursor(7, 9)
    assert await tasks.claim("two", now_ms=300, until_ms=500) is None  # saving kept the lease
    assert not await tasks.save("two", 400, replace(FIRST, processed=8), Cursor(70, 90))
    assert await tasks.get("a") == replace(FIRST, processed=3)
    assert await tasks.claim("two", now_ms=401, until_ms=500) == Cursor(7, 9)
    assert not await tasks.save("one", 600, replace(FIRST, processed=5), Cursor(8, 9))
    assert await tasks.cursor() == Cursor(7, 9)


async def test_what_was_streamed_for_a_removed_task_stays_streamed(tasks: TaskStore) -> None:
    await tasks.claim("one", now_ms=100, until_ms=200)
    assert not await tasks.save("one", 400, FIRST, Cursor(7, 9))
    assert await tasks.cursor() == Cursor(7, 9)
    assert await tasks.get("a") is None
