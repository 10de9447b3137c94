"""What the back-fill of the legacy tables needs from SQL: the rows to stream, and a durable record of the work.

As with ``ports.py``, each has an adapter and an in-memory twin, and one contract suite runs against both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

Status: TypeAlias = Literal["processing", "completed", "failed"]


class Cursor(NamedTuple):
    """What was streamed: recommendations up to an id, and of these the logs up to an id (with those of none)."""

    recommendation_id: int = 0
    log_id: int = 0


@dataclass(frozen=True, slots=True)
class LegacyLogRow:
    """One usable row of ``user_logs``: its user exists, it names a content, and it is a click or a view."""

    log_id: int
    user_id: str
    kind: Literal["click", "view"]
    content_id: int
    recommendation_id: int | None = None
    ratio: float | None = None
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LegacyRecommendation:
    """One recommendation with its slate in order, and the user's clicks before it as (content id, time), newest first.

    ``user_id`` is None when its user is gone.
    """

    recommendation_id: int
    user_id: str | None
    timestamp_ms: int | None
    slate: tuple[int, ...] = ()
    clicks_before: tuple[tuple[int, int], ...] = ()
    logs: tuple[LegacyLogRow, ...] = ()


class LegacyPage(NamedTuple):
    """Rows, and the id up to which nothing more is to be read: the last one's, unusable ones included."""

    rows: Sequence[LegacyLogRow]
    last_id: int


class LegacyLog(Protocol):
    """The backend's tables, read only, a page at a time by key. Without these tables it is empty."""

    async def bound(self, after: Cursor, recommendations: int | None) -> Cursor:
        """Return the newest ids, of recommendations at most that many after the cursor."""

    async def count(self, after: Cursor, until: Cursor) -> int:
        """Return the usable logs between two cursors: what streaming from one to the other appends."""

    async def late_logs(self, after_id: int, until_id: int, recommendations_until: int, limit: int) -> LegacyPage:
        """Return what is late among the next ``limit`` logs by id; ``last_id`` is ``until_id`` at the end.

        Late are logs of recommendations up to ``recommendations_until``, and of none.
        """

    async def recommendations(
        self, after_id: int, until_id: int, logs_until: int, limit: int
    ) -> list[LegacyRecommendation]:
        """Return the next recommendations by id, each with its logs up to ``logs_until``; empty at the end."""

    async def close(self) -> None:
        """Close the pool."""


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One training task as it is kept. ``state`` is the follower's own, opaque here; times are epoch ms.

    ``recommendations`` limits how many are streamed, None for all. ``results`` are (q value, loss) pairs.
    """

    task_id: str
    created_ms: int
    batch_size: int
    recommendations: int | None = None
    save_model: bool = False
    status: Status = "processing"
    ended_ms: int | None = None
    total: int = 0
    processed: int = 0
    results: tuple[tuple[float, float], ...] = ()
    total_loss: float | None = None
    error: str | None = None
    save_path: str | None = None
    message: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may stream now, and until when (epoch ms by the holder's clock)."""

    owner: str = ""
    until_ms: int = 0
    cursor: Cursor = field(default_factory=Cursor)


class TaskStore(Protocol):
    """Tasks, the cursor, and the lease of the one worker that streams."""

    async def add(self, task: TrainingTask) -> None:
        """Keep a new task."""

    async def get(self, task_id: str) -> TrainingTask | None:
        """Return a task, None when there is none of that id."""

    async def newest(self, limit: int) -> list[TrainingTask]:
        """Return the newest tasks, newest first."""

    async def oldest_processing(self) -> TrainingTask | None:
        """Return the task whose turn it is."""

    async def remove(self, task_id: str) -> bool:
        """Forget a task; False when there is none of that id."""

    async def forget_ended(self, before_ms: int) -> int:
        """Forget tasks that ended before a moment, and return how many."""

    async def cursor(self) -> Cursor:
        """Return what was streamed so far."""

    async def claim(self, owner: str, now_ms: int, until_ms: int) -> Cursor | None:
        """Take the lease and return the cursor; None while another owner's lease lasts."""

    async def renew(self, owner: str, until_ms: int) -> bool:
        """Keep the lease; False when it is not this owner's any more, which is never taken back like this."""

    async def save(self, owner: str, until_ms: int, task: TrainingTask, cursor: Cursor) -> bool:
        """Write task and cursor at once and keep the lease.

        False, and nothing is written, when the lease is somebody else's; False and only the cursor, when the task was
        removed.
        """

    async def release(self, owner: str) -> None:
        """Give the lease back, if it is this owner's."""

    async def close(self) -> None:
        """Close the pool."""
