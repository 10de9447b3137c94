"""Which turns may be played now: global order, several users at once, each user's story strictly in order."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from examples.movielens.protocol import Turn


@dataclass(frozen=True, slots=True)
class Chapter:
    """Turns of one user that are played together: a request and the likes that follow it, up to the next request."""

    user_id: int
    turns: tuple[Turn, ...]
    positions: tuple[int, ...]


class Schedule:
    """Hands out chapters, the one with the oldest turn first.

    A turn is handed out only while it is less than ``window`` turns ahead of the oldest unfinished one, and never while
    an earlier turn of the same user is unfinished.
    """

    def __init__(self, turns: Sequence[Turn], window: int) -> None:
        self._turns = turns
        self._window = window
        self._admitted = 0
        self._oldest = 0
        self._finished = bytearray(len(turns))
        self._waiting: dict[int, deque[int]] = {}
        self._busy: set[int] = set()
        self._ready: list[tuple[int, int]] = []
        self._admit()

    @property
    def exhausted(self) -> bool:
        """Whether every turn is finished."""
        return self._oldest == len(self._turns)

    @property
    def ready(self) -> int:
        """How many chapters could be taken now."""
        return len(self._ready)

    def take(self) -> Chapter | None:
        """Return what to play next and hold its user; None when everything allowed is being played."""
        if not self._ready:
            return None
        _, user_id = heapq.heappop(self._ready)
        waiting = self._waiting[user_id]
        positions = [waiting.popleft()]
        while waiting and self._turns[waiting[0]].opens is None:
            positions.append(waiting.popleft())
        self._busy.add(user_id)
        return Chapter(user_id, tuple(self._turns[position] for position in positions), tuple(positions))

    def finish(self, chapter: Chapter) -> None:
        """Release the user and let the window move on."""
        for position in chapter.positions:
            self._finished[position] = 1
        while self._oldest < len(self._turns) and self._finished[self._oldest]:
            self._oldest += 1
        self._busy.discard(chapter.user_id)
        if self._waiting[chapter.user_id]:
            heapq.heappush(self._ready, (self._waiting[chapter.user_id][0], chapter.user_id))
        self._admit()

    def _admit(self) -> None:
        until = min(len(self._turns), self._oldest + self._window)
        for position in range(self._admitted, until):
            user_id = self._turns[position].user_id
            waiting = self._waiting.setdefault(user_id, deque())
            if not waiting and user_id not in self._busy:
                heapq.heappush(self._ready, (position, user_id))
            waiting.append(position)
        self._admitted = max(self._admitted, until)
