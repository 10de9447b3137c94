"""How far the learner has come with what a task appended: the arithmetic of following it."""

from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import orjson

from libs.adapters.ports import SnapshotMeta
from libs.adapters.training_ports import Cursor, TrainingTask
from libs.events.topics import EVENTS

MAX_RESULTS: Final = 100
_MAX_MARKS: Final = 64  # a partition; more are joined two by two, and progress gets coarser, not wrong


@dataclass(slots=True)
class Progress:
    """What a task waits for, bounded however much it streams.

    ``marks`` holds for each partition, in order, (offset, interactions): once a snapshot contains the events up to the
    offset, so many more interactions have been learned. ``until`` is where streaming ends, None before it began.
    ``every``: only each so many-th snapshot is kept as a result, so that 100 of them span the whole task.
    """

    until: Cursor | None = None
    marks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    streamed: int = 0
    version: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    every: int = 1

    @property
    def learned(self) -> bool:
        """Whether nothing that was appended is still waited for."""
        return not any(self.marks.values())

    def append(self, marks: dict[int, tuple[int, int]]) -> None:
        """Take note of a page that the broker has."""
        for partition, mark in marks.items():
            waiting = self.marks.setdefault(partition, [])
            waiting.append(mark)
            self.streamed += mark[1]
            if len(waiting) > _MAX_MARKS:
                self.marks[partition] = _joined(waiting)

    def observe(self, task: TrainingTask, meta: SnapshotMeta) -> TrainingTask:
        """Return the task as it is now that this snapshot was published; one seen before changes nothing."""
        if meta.version == self.version:
            return task
        self.version = meta.version
        if meta.created_ms < task.created_ms:  # offsets of an earlier log would say nothing about this one
            return task
        task = replace(task, processed=task.processed + self._contained(meta))
        course = _course(meta)
        if course is None:
            return task
        q_value, loss = course
        self.loss_sum += loss
        self.losses += 1
        return replace(task, total_loss=self.loss_sum / self.losses, results=self._kept(task.results, (q_value, loss)))

    def dump(self) -> str:
        """Return everything as JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["until"] = None if self.until is None else tuple(self.until)
        return orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS).decode()

    @classmethod
    def load(cls, text: str) -> Self:
        """Take over what ``dump`` returned; the beginning, when the text is empty."""
        if not text:
            return cls()
        values: dict[str, Any] = orjson.loads(text)
        values["until"] = None if values["until"] is None else Cursor(*values["until"])
        values["marks"] = {
            int(partition): [(until, interactions) for until, interactions in waiting]
            for partition, waiting in values["marks"].items()
        }
        return cls(**values)

    def _contained(self, meta: SnapshotMeta) -> int:
        learned = 0
        for partition, waiting in self.marks.items():
            offset = meta.offsets.get(f"{EVENTS}:{partition}", 0)
            learned += sum(interactions for until, interactions in waiting if until <= offset)
            self.marks[partition] = [mark for mark in waiting if mark[0] > offset]
        return learned

    def _kept(
        self, results: tuple[tuple[float, float], ...], newest: tuple[float, float]
    ) -> tuple[tuple[float, float], ...]:
        if (self.losses - 1) % self.every:
            return results
        if len(results) == MAX_RESULTS:
            results, self.every = results[::2], 2 * self.every
            return results if (self.losses - 1) % self.every else (*results, newest)
        return (*results, newest)


def _joined(waiting: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join neighbours: the later offset, and the interactions of both."""
    pairs = [waiting[at : at + 2] for at in range(0, len(waiting), 2)]
    return [(pair[-1][0], sum(interactions for _, interactions in pair)) for pair in pairs]


def _course(meta: SnapshotMeta) -> tuple[float, float] | None:
    """Return (mean q, mean loss) of the updates behind a snapshot, None when it does not say."""
    try:
        return float(meta.extra["q_mean"]), float(meta.extra["loss"])
    except (KeyError, ValueError):
        return None
