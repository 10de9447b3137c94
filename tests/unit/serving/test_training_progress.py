"""Following a task: offsets against marks, bounded however long it takes."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from libs.adapters.ports import SnapshotMeta
from libs.adapters.training_ports import Cursor, TrainingTask
from services.serving.training_progress import Progress

TASK = TrainingTask("a", created_ms=1_000, batch_size=10)
META = SnapshotMeta(1, 1, 1, "", 0, created_ms=2_000, format=1, arch="", offsets={})


def meta(version: int, offsets: dict[int, int] | None = None, loss: float | None = None, **fields: Any) -> SnapshotMeta:
    named = {f"moard.events:{partition}": offset for partition, offset in (offsets or {}).items()}
    extra = {} if loss is None else {"loss": str(loss), "q_mean": str(-loss)}
    return replace(META, version=version, offsets=named, extra=extra, **fields)


def test_a_mark_is_learned_when_its_partition_has_passed_it() -> None:
    progress = Progress()
    progress.append({0: (10, 4), 1: (5, 2)})
    progress.append({0: (20, 3)})
    task = progress.observe(TASK, meta(1, {0: 9, 1: 5}))
    assert (task.processed, progress.learned) == (2, False)
    task = progress.observe(task, meta(2, {0: 19, 1: 5}))
    assert task.processed == 6
    task = progress.observe(task, meta(3, {0: 20, 1: 5}))
    assert (task.processed, progress.learned, progress.streamed) == (9, True, 9)


def test_a_snapshot_counts_once_and_one_from_before_the_task_never() -> None:
    progress = Progress()
    progress.append({0: (10, 4)})
    assert progress.observe(TASK, meta(1, {0: 99}, loss=1.0, created_ms=999)) == TASK
    task = progress.observe(TASK, meta(2, {0: 9}, loss=1.0))
    assert progress.observe(task, meta(2, {0: 9}, loss=1.0)) == task
    assert (task.results, task.total_loss) == (((-1.0, 1.0),), 1.0)


def test_the_loss_is_the_mean_of_those_that_say_one() -> None:
    progress, task = Progress(), TASK
    for version, loss in enumerate((1.0, None, 3.0), start=1):
        task = progress.observe(task, meta(version, loss=loss))
    assert (task.total_loss, len(task.results)) == (2.0, 2)


def test_results_span_the_whole_task_in_a_hundred() -> None:
    progress, task = Progress(), TASK
    for version in range(1, 1_001):
        task = progress.observe(task, meta(version, loss=float(version)))
        assert len(task.results) <= 100
    losses = [loss for _, loss in task.results]
    assert losses[0] == 1.0
    assert losses == sorted(losses)
    assert {later - earlier for earlier, later in pairwise(losses)} == {16.0}
    assert losses[-1] > 980
    assert task.total_loss == 500.5


def test_marks_stay_few_and_their_sum_exact() -> None:
    progress = Progress()
    for number in range(1, 10_001):
        progress.append({0: (number, 1)})
    assert len(progress.marks[0]) <= 64
    assert sum(interactions for _, interactions in progress.marks[0]) == progress.streamed == 10_000
    assert progress.observe(TASK, meta(1, {0: 9_999})).processed < 10_000
    assert len(progress.dump()) < 5_000


def test_what_was_dumped_goes_on() -> None:
    progress = Progress(until=Cursor(3, 4))
    progress.append({0: (10, 4), 3: (7, 1)})
    progress.observe(TASK, meta(1, {3: 7}, loss=0.5))
    assert Progress.load(progress.dump()) == progress
    assert Progress.load("") == Progress()
