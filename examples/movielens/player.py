"""Plays the stream through the public HTTP calls: rank, click what the user likes, like what the slate missed."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from examples.movielens.client import Ranked
from examples.movielens.pace import Pace
from examples.movielens.protocol import SLATE, Request, Turn
from examples.movielens.schedule import Chapter, Schedule
from examples.scoreboard import Scoreboard


class Backend(Protocol):
    """The two calls that a backend makes."""

    async def rank(self, user_id: str, candidates: Sequence[int], size: int) -> Ranked:
        """Return a slate."""

    async def post(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Return when all events are acknowledged."""


def wall_clock_ms() -> int:
    """Return the time of day, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def user_name(run: str, user_id: int) -> str:
    """Return the id by which the services know a user of a run."""
    return f"ml-{run}-{user_id}"


class Player:
    """Several users at once, each user's story strictly in order.

    The story is told as it happens now: event times are today's, so the years between 1997 and now do not matter to
    windows and ages, and six months pass in two minutes. ``run`` is part of every id, so that two runs against one
    stack are strangers to each other.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        backend: Backend,
        pace: Pace,
        scoreboard: Scoreboard,
        *,
        run: str,
        in_flight: int,
        window: int,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._schedule = Schedule(turns, window)
        self._backend = backend
        self._pace = pace
        self._scoreboard = scoreboard
        self._run = run
        self._in_flight = in_flight
        self._now_ms = now_ms
        self._clicked: dict[int, set[int]] = {}
        self._changed = asyncio.Condition()
        self.interactions = 0

    async def play(self) -> None:
        """Play to the end; raises what a call raised."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._in_flight):
                group.create_task(self._work())

    async def _work(self) -> None:
        while chapter := await self._take():
            await self._tell(chapter)
            self._schedule.finish(chapter)
            async with self._changed:
                self._changed.notify(self._in_flight if self._schedule.exhausted else self._schedule.ready)

    async def _take(self) -> Chapter | None:
        async with self._changed:
            while not self._schedule.exhausted:
                if chapter := self._schedule.take():
                    return chapter
                await self._changed.wait()
        return None

    async def _tell(self, chapter: Chapter) -> None:
        user, events = user_name(self._run, chapter.user_id), []
        request = chapter.turns[0].opens
        if request is not None:
            await self._pace.slot()
            ranked = await self._backend.rank(user, request.candidates, SLATE)
            events = self._click(user, request, ranked)
        events += [self._like(user, turn) for turn in chapter.turns if self._missed(turn)]
        if events:
            await self._backend.post(events)
            self.interactions += len(events)

    def _click(self, user: str, request: Request, ranked: Ranked) -> list[dict[str, Any]]:
        clicked = request.clicks(ranked.slate)
        self._clicked[request.number] = set(clicked)
        self._scoreboard.record(request.number, len(clicked))
        return [
            {
                **self._interaction(user, "click", content_id, request.number),
                "impression_id": ranked.impression_id,
            }
            for content_id in clicked
        ]

    def _missed(self, turn: Turn) -> bool:
        return turn.content_id not in self._clicked[turn.request_number]

    def _like(self, user: str, turn: Turn) -> dict[str, Any]:
        return self._interaction(user, "like", turn.content_id, turn.request_number)

    def _interaction(self, user: str, kind: str, content_id: int, number: int) -> dict[str, Any]:
        return {
            "type": "interaction",
            "event_id": f"{self._run}-{kind}-{number}-{content_id}",
            "user_id": user,
            "kind": kind,
            "content_id": content_id,
            "timestamp_ms": self._now_ms(),
        }
