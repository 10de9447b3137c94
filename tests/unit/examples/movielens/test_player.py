"""The player against a backend in this process that remembers what it was asked."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from examples.movielens.client import CallFailed, Ranked
from examples.movielens.pace import Pace, PaceSettings
from examples.movielens.player import Player
from examples.movielens.protocol import SLATE, Request, Turn, baselines, requests_of
from examples.scoreboard import Scoreboard

# User 1 likes 10, 12, 13 and later 14; the other user's rating comes in between.
TURNS = [
    Turn(1, 10, 0, 0, Request(0, 1, (10, 12, 13), (12, 20, 21, 22, 23, 24, 10, 13))),
    Turn(2, 30, 1, 1, Request(1, 2, (30,), (40, 41, 30))),
    Turn(1, 12, 2, 0, None),
    Turn(1, 13, 3, 0, None),
    Turn(1, 14, 4, 2, Request(2, 1, (14,), (40, 41, 42, 43, 44, 45, 14))),
]


class FirstSix:
    """Ranks the candidates as they come, slowly and unevenly, and remembers every call."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.busy: set[str] = set()
        self._fail_at = fail_at

    async def rank(self, user_id: str, candidates: Sequence[int], size: int) -> Ranked:
        await self._answer(user_id)
        self.calls.append((user_id, tuple(candidates)))
        return Ranked(f"imp-{len(self.calls)}", tuple(candidates[:size]), "value", 1)

    async def post(self, events: Sequence[Mapping[str, Any]]) -> None:
        (user_id,) = {event["user_id"] for event in events}
        await self._answer(user_id)
        self.calls.append((user_id, [dict(event) for event in events]))

    async def _answer(self, user_id: str) -> None:
        assert user_id not in self.busy, "a user's story has one teller"
        self.busy.add(user_id)
        for _ in range(1 + len(self.calls) % 3):
            await asyncio.sleep(0)
        self.busy.discard(user_id)
        if self._fail_at == len(self.calls):
            raise CallFailed("ingest is gone")


def player_of(backend: FirstSix, turns: Sequence[Turn] = TURNS, window: int = 100) -> tuple[Player, Scoreboard]:
    scoreboard = Scoreboard(baselines(turns))
    pace = Pace(PaceSettings(requests_per_s=1e9), now=asyncio.get_running_loop().time)
    return (
        Player(turns, backend, pace, scoreboard, run="r", in_flight=4, window=window, now_ms=lambda: 1_000),
        scoreboard,
    )


def story(backend: FirstSix, user_id: str) -> list[Any]:
    return [call for user, call in backend.calls if user == user_id]


async def test_clicks_name_their_impression_and_missed_likes_follow_as_organic() -> None:
    backend = FirstSix()
    player, scoreboard = player_of(backend)

    await player.play()

    ranked, events, ranked_again, events_again = story(backend, "ml-r-1")
    assert ranked == TURNS[0].opens.candidates if TURNS[0].opens else False
    # Six of eight were shown: 12 is clicked; 10 and 13 come when the user rates them.
    assert [(e["kind"], e["content_id"], e.get("impression_id") is not None) for e in events] == [
        ("click", 12, True),
        ("like", 10, False),
        ("like", 13, False),
    ]
    assert [(e["kind"], e["content_id"]) for e in events_again] == [("like", 14)]
    assert ranked_again == (40, 41, 42, 43, 44, 45, 14)
    assert events[0]["timestamp_ms"] == 1_000
    assert player.interactions == 5
    assert scoreboard.by_fifths()["moard"][0] == 1.0


async def test_a_click_carries_the_id_that_the_rank_call_answered() -> None:
    backend = FirstSix()
    player, _ = player_of(backend, [Turn(2, 30, 0, 0, Request(0, 2, (30,), (40, 41, 30)))])

    await player.play()

    assert backend.calls[1][1][0]["impression_id"] == "imp-1"


async def test_likes_wait_for_their_turn_when_the_window_does_not_reach_it() -> None:
    backend = FirstSix()
    player, _ = player_of(backend, window=1)

    await player.play()

    assert [(user, [e["content_id"] for e in call]) for user, call in backend.calls if isinstance(call, list)] == [
        ("ml-r-1", [12, 10]),
        ("ml-r-2", [30]),
        ("ml-r-1", [13]),
        ("ml-r-1", [14]),
    ]


async def test_event_ids_are_unique_and_every_like_of_the_stream_is_told_once() -> None:
    turns = [
        turn
        for start in range(0, 30, 3)
        for turn in (
            Turn(
                start % 5, start, 0, start // 3, Request(start // 3, start % 5, (start, start + 1), (start, 900, 901))
            ),
            Turn(start % 5, start + 1, 0, start // 3, None),
        )
    ]
    backend = FirstSix()
    player, _ = player_of(backend, turns)

    await player.play()

    events = [event for _, call in backend.calls if isinstance(call, list) for event in call]
    assert len({event["event_id"] for event in events}) == len(events) == len(turns)
    assert sorted(event["content_id"] for event in events) == sorted(turn.content_id for turn in turns)
    assert sum(isinstance(call, tuple) for _, call in backend.calls) == len(requests_of(turns))


async def test_a_failed_call_ends_the_play() -> None:
    player, _ = player_of(FirstSix(fail_at=3))

    with pytest.raises(ExceptionGroup) as failure:
        await player.play()

    assert failure.group_contains(CallFailed, match="ingest is gone")


async def test_slates_are_asked_in_the_agreed_size() -> None:
    sizes: list[int] = []

    class Sized(FirstSix):
        async def rank(self, user_id: str, candidates: Sequence[int], size: int) -> Ranked:
            sizes.append(size)
            return await super().rank(user_id, candidates, size)

    player, _ = player_of(Sized())
    await player.play()

    assert set(sizes) == {SLATE}
