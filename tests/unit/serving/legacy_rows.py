"""A legacy server's rows, and a learner that says how far it has come."""

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from libs.adapters.memory import MemoryLegacyLog
from libs.adapters.training_ports import LegacyLogRow, LegacyRecommendation
from libs.errors import StoreUnavailable
from libs.events.codec import decode_event
from libs.events.schema import Erasure, Event
from libs.events.topics import EVENTS
from tests.unit.serving.world import World

T0_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def user(number: int) -> str:
    return str(UUID(int=number))


def legacy_log(recommendations: int, first: int = 1) -> MemoryLegacyLog:
    """Return that many recommendations of three contents, each with a click on the first and a view of the second."""
    log = MemoryLegacyLog()
    for number in range(first, first + recommendations):
        recommend(log, number)
    return log


def recommend(log: MemoryLegacyLog, number: int, logs: int = 2) -> None:
    at_ms = T0_MS + number * MINUTE_MS
    log.shown.append(LegacyRecommendation(number, user(number % 5), at_ms, (number, number + 1, number + 2)))
    act(log, 10 * number, number, number, at_ms=at_ms + 1_000)
    if logs > 1:
        log.rows.append(LegacyLogRow(10 * number + 1, user(number % 5), "view", number + 1, number, 0.5, at_ms + 2_000))


def act(log: MemoryLegacyLog, log_id: int, number: int, recommendation: int | None, at_ms: int = T0_MS) -> None:
    log.rows.append(LegacyLogRow(log_id, user(number % 5), "click", number, recommendation, None, at_ms))


def appended(w: World) -> list[Event]:
    events = [decode_event(record.value) for record in w.log.records(EVENTS)]
    return [event for event in events if not isinstance(event, Erasure)]


async def learn(w: World, loss: float | None = 0.5, q_mean: float = 0.25, **fields: Any) -> int:
    """Publish a snapshot that contains everything in the log; return its version."""
    ends = {f"{EVENTS}:{n}": partition.end for n, partition in enumerate(w.log.partitions(EVENTS))}
    now_ms = time.time_ns() // 1_000_000
    current = await w.snapshots.current()
    version = max(now_ms, 0 if current is None else current.version + 1)
    extra = {} if loss is None else {"loss": repr(loss), "q_mean": repr(q_mean)}
    named: dict[str, Any] = {"offsets": ends, "created_ms": now_ms, "extra": extra} | fields
    await w.publish(version, **named)
    return version


@dataclass
class NotingKeeper:
    """A keeper that notes what it is asked, and fails as it is told."""

    fails: list[Exception] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)

    async def keep(self, name: str, actor: str, request_id: str) -> int:
        if self.fails:
            raise self.fails.pop(0)
        self.kept.append((name, actor, request_id))
        return 1


AWAY = StoreUnavailable("away")
