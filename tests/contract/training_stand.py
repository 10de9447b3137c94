"""The legacy tables under test, as rows that the backend writes, and the log read from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from libs.adapters.memory import MemoryLegacyLog
from libs.adapters.training_ports import LegacyLog, LegacyLogRow, LegacyRecommendation
from tests.contract.catalogue_stand import execute

ANN, BOB = UUID(int=0xA << 120 | 1), UUID(int=0xB << 120 | 2)
T0_MS = 1_700_000_000_000


def written(at_ms: int | None) -> str | None:
    return None if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"


@dataclass
class LegacyStand:
    """Rows to be, written to MariaDB or SQLite, or put into the twin. ``users`` are those of the users table."""

    log: LegacyLog
    url: str | None = None
    users: dict[int, UUID] = field(default_factory=lambda: {1: ANN, 2: BOB})
    statements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def recommend(self, recommendation_id: int, user: int, slate: Sequence[int], at_ms: int | None = T0_MS) -> None:
        known = self.users.get(user)
        if isinstance(self.log, MemoryLegacyLog):
            shown = LegacyRecommendation(recommendation_id, None if known is None else str(known), at_ms, tuple(slate))
            self.log.shown.append(shown)
            return
        self.statements.append(
            (
                "INSERT INTO recommendations (id, user_id, recommended_at) VALUES (:id, :user, :at)",
                {"id": recommendation_id, "user": user, "at": written(at_ms)},
            )
        )
        ranked = list(enumerate(slate))
        for rank, content_id in ranked[::-1]:  # the order of insertion says nothing
            self.statements.append(
                (
                    "INSERT INTO recommendation_contents VALUES (:id, :content, :rank)",
                    {"id": recommendation_id, "content": content_id, "rank": rank},
                )
            )

    def act(
        self,
        log_id: int,
        user: int,
        content_id: int | None,
        recommendation_id: int | None = None,
        kind: str = "CLICK",
        ratio: float | None = None,
        at_ms: int | None = T0_MS,
    ) -> None:
        known = self.users.get(user)
        if isinstance(self.log, MemoryLegacyLog):
            if known is not None and content_id is not None and kind in ("CLICK", "VIEW"):
                lower: Any = kind.lower()
                row = LegacyLogRow(log_id, str(known), lower, content_id, recommendation_id, ratio, at_ms)
                self.log.rows.append(row)
            else:  # not usable: its id counts all the same
                self.log.unusable_ids.append(log_id)
            return
        values = {"id": log_id, "user": user, "kind": kind, "content": content_id, "rec": recommendation_id}
        self.statements.append(
            (
                "INSERT INTO user_logs (id, user_id, event_type, content_id, recommendation_id, ratio, timestamp)"
                " VALUES (:id, :user, :kind, :content, :rec, :ratio, :at)",
                values | {"ratio": ratio, "at": written(at_ms)},
            )
        )

    async def write(self) -> None:
        if self.url is not None:
            known = "INSERT INTO users VALUES (:id, :octets)"
            rows = [(known, {"id": number, "octets": user.bytes}) for number, user in self.users.items()]
            await execute(self.url, *rows, *self.statements)
            self.users, self.statements = {}, []


def without_logs(recommendation: LegacyRecommendation) -> LegacyRecommendation:
    return replace(recommendation, logs=())
