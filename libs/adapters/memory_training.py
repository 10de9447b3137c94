"""Training tasks and the legacy tables in this process. Set ``available = False`` to take them away."""

from collections.abc import Iterable
from dataclasses import replace

from libs.adapters.training_ports import (
    Cursor,
    Lease,
    LegacyLogRow,
    LegacyPage,
    LegacyRecommendation,
    TrainingTask,
)
from libs.errors import StoreUnavailable


class MemoryTaskStore:
    """Twin of ``SqlTaskStore``, shared by the workers of one event loop."""

    def __init__(self) -> None:
        self.available = True
        self.lease = Lease()
        self._tasks: dict[str, TrainingTask] = {}

    async def add(self, task: TrainingTask) -> None:
        """Keep a new task."""
        self._require()
        self._tasks[task.task_id] = task

    async def get(self, task_id: str) -> TrainingTask | None:
        """Return a task."""
        self._require()
        return self._tasks.get(task_id)

    async def newest(self, limit: int) -> list[TrainingTask]:
        """Return the newest tasks, newest first."""
        self._require()
        return sorted(self._tasks.values(), key=lambda task: (-task.created_ms, task.task_id))[:limit]

    async def oldest_processing(self) -> TrainingTask | None:
        """Return the task whose turn it is."""
        self._require()
        waiting = [task for task in self._tasks.values() if task.status == "processing"]
        return min(waiting, key=lambda task: (task.created_ms, task.task_id), default=None)

    async def remove(self, task_id: str) -> bool:
        """Forget a task."""
        self._require()
        return self._tasks.pop(task_id, None) is not None

    async def forget_ended(self, before_ms: int) -> int:
        """Forget tasks that ended before a moment."""
        self._require()
        old = [task.task_id for task in self._tasks.values() if (task.ended_ms or before_ms) < before_ms]
        for task_id in old:
            del self._tasks[task_id]
        return len(old)

    async def cursor(self) -> Cursor:
        """Return what was streamed so far."""
        self._require()
        return self.lease.cursor

    async def claim(self, owner: str, now_ms: int, until_ms: int) -> Cursor | None:
        """Take the lease, or keep it."""
        self._require()
        if self.lease.owner != owner and self.lease.until_ms >= now_ms:
            return None
        self.lease = replace(self.lease, owner=owner, until_ms=until_ms)
        return self.lease.cursor

    async def renew(self, owner: str, until_ms: int) -> bool:
        """Keep the lease."""
        self._require()
        if self.lease.owner != owner:
            return False
        self.lease = replace(self.lease, until_ms=until_ms)
        return True

    async def save(self, owner: str, until_ms: int, task: TrainingTask, cursor: Cursor) -> bool:
        """Write task and cursor at once and keep the lease."""
        self._require()
        if self.lease.owner != owner:
            return False
        self.lease = Lease(owner, until_ms, cursor)
        if task.task_id not in self._tasks:
            return False
        self._tasks[task.task_id] = task
        return True

    async def release(self, owner: str) -> None:
        """Give the lease back."""
        self._require()
        if self.lease.owner == owner:
            self.lease = replace(self.lease, owner="", until_ms=0)

    async def close(self) -> None:
        """Do nothing."""

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable("the in-memory tasks are switched off")


class MemoryLegacyLog:
    """Twin of ``SqlLegacyLog``.

    ``shown`` are the recommendations without their logs, ``rows`` the usable logs, ``unusable_ids`` those of others.
    """

    def __init__(self, shown: Iterable[LegacyRecommendation] = (), rows: Iterable[LegacyLogRow] = ()) -> None:
        self.available = True
        self.shown = list(shown)
        self.rows = list(rows)
        self.unusable_ids: list[int] = []

    async def bound(self, after: Cursor, recommendations: int | None) -> Cursor:
        """Return the newest ids."""
        self._require()
        ids = sorted(each.recommendation_id for each in self.shown if each.recommendation_id > after.recommendation_id)
        newest_log = max((*(row.log_id for row in self.rows), *self.unusable_ids), default=0)
        return Cursor((ids[:recommendations] or [after.recommendation_id])[-1], max(after.log_id, newest_log))

    async def count(self, after: Cursor, until: Cursor) -> int:
        """Return the logs between two cursors."""
        self._require()
        streamed = {each.recommendation_id for each in self.shown}
        late = sum(
            after.log_id < row.log_id <= until.log_id and (row.recommendation_id or 0) <= after.recommendation_id
            for row in self.rows
        )
        return late + sum(
            row.recommendation_id in streamed
            and after.recommendation_id < (row.recommendation_id or 0) <= until.recommendation_id
            and row.log_id <= until.log_id
            for row in self.rows
        )

    async def late_logs(self, after_id: int, until_id: int, recommendations_until: int, limit: int) -> LegacyPage:
        """Return what is late among the next logs by id."""
        self._require()
        found = sorted((row for row in self.rows if after_id < row.log_id <= until_id), key=lambda row: row.log_id)
        page = found[:limit]
        late = [row for row in page if (row.recommendation_id or 0) <= recommendations_until]
        return LegacyPage(late, page[-1].log_id if len(page) == limit else until_id)

    async def recommendations(
        self, after_id: int, until_id: int, logs_until: int, limit: int
    ) -> list[LegacyRecommendation]:
        """Return the next recommendations by id, each with its logs and the clicks before it."""
        self._require()
        found = sorted(
            (each for each in self.shown if after_id < each.recommendation_id <= until_id),
            key=lambda each: each.recommendation_id,
        )
        return [self._with_logs(each, logs_until) for each in found[:limit]]

    async def close(self) -> None:
        """Do nothing."""

    def _with_logs(self, shown: LegacyRecommendation, logs_until: int) -> LegacyRecommendation:
        logs = [
            row for row in self.rows if row.recommendation_id == shown.recommendation_id and row.log_id <= logs_until
        ]
        before = [
            (row.timestamp_ms, row.log_id, row.content_id)
            for row in self.rows
            if row.user_id == shown.user_id
            and row.kind == "click"
            and row.timestamp_ms is not None
            and shown.timestamp_ms is not None
            and row.timestamp_ms < shown.timestamp_ms
        ]
        clicks = tuple((content_id, at_ms) for at_ms, _, content_id in sorted(before, reverse=True)[:30])
        return replace(shown, logs=tuple(sorted(logs, key=lambda row: row.log_id)), clicks_before=clicks)

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable("the in-memory legacy tables are switched off")
