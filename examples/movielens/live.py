"""The run itself, in one event loop: contents in, stream played, figures watched, learner drained."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from examples.movielens.client import CallFailed, Client
from examples.movielens.dataset import Movie
from examples.movielens.pace import Pace, PaceSettings
from examples.movielens.player import Player
from examples.movielens.protocol import Turn, baselines
from examples.movielens.readings import NOTHING_YET, Page, Readings
from examples.movielens.report import Report, report
from examples.movielens.view import Frame
from examples.scoreboard import Scoreboard
from libs.errors import MoardError

_LOOK_EVERY_S = 0.5
_RATE_OVER_LOOKS = 10  # rates are of the last five seconds: steadier than of one look
_PUTS_IN_FLIGHT = 16
_SETTLE_DEADLINE_S = 90.0  # the longest the services may need to catch up; they need a second or two


class NotSettled(MoardError):
    """The services did not catch up in time. Consequence: the demo fails and says so."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of the three services."""

    serving: str
    ingest: str
    learner: str


class Live:
    """One run against running services.

    ``show`` is given a frame twice a second; ``alive`` is asked as often, and raises when a service has died.
    """

    def __init__(
        self,
        addresses: Addresses,
        turns: Sequence[Turn],
        pace: PaceSettings,
        show: Callable[[Frame], None],
        alive: Callable[[], None],
        run: str,
    ) -> None:
        self._addresses = addresses
        self._turns = turns
        self._pace_settings = pace
        self._pace = Pace(pace, time.monotonic)
        self._show = show
        self._alive = alive
        self._run = run
        self._scoreboard = Scoreboard(baselines(turns))
        self._looks: deque[Readings] = deque([NOTHING_YET, NOTHING_YET], maxlen=_RATE_OVER_LOOKS)
        self._started_s = time.monotonic()
        self._stage = "loading contents"

    async def play(self, contents: Sequence[Movie]) -> Report:
        """Play the stream to its end and return its report.

        Raises
        ------
        ExceptionGroup
            Holding the first failure of any part.
        """
        connections = self._pace_settings.in_flight + _PUTS_IN_FLIGHT
        async with (
            Client(self._addresses.serving, self._addresses.ingest, connections) as client,
            asyncio.TaskGroup() as group,
        ):
            watching = group.create_task(self._watch(client))
            await _put_all(client, contents)
            await self._until(lambda now: now.contents >= len(contents), "serving has not seen all contents")
            player, duration_s = await self._play(client)
            await self._until(
                lambda now: now.lag_records == 0 and now.settled >= player.interactions, "the learner is still behind"
            )
            self._stage = "done"
            await self._look(client)
            watching.cancel()
        return report(self._scoreboard, self._looks[-1], duration_s)

    async def _play(self, client: Client) -> tuple[Player, float]:
        player = Player(
            self._turns,
            client,
            self._pace,
            self._scoreboard,
            run=self._run,
            in_flight=self._pace_settings.in_flight,
            window=self._pace_settings.window,
        )
        self._stage, began_s = "playing", time.monotonic()
        await player.play()
        self._stage = "draining"
        return player, time.monotonic() - began_s

    async def _watch(self, client: Client) -> None:
        while True:
            self._alive()
            try:
                await self._look(client)
            except CallFailed:
                self._alive()  # says more than that a page could not be read
                raise
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, client: Client) -> None:
        urls = (self._addresses.ingest, self._addresses.learner, self._addresses.serving)
        pages = [Page(await client.text(f"{url}/metrics")) for url in urls]
        now = Readings(time.monotonic(), *pages)
        self._pace.observe(now.lag_records, now.snapshot_age_s)
        self._show(
            Frame(
                elapsed_s=time.monotonic() - self._started_s,
                scoreboard=self._scoreboard,
                now=now,
                earlier=self._looks[0],
                brake=self._pace.brake,
                stage=self._stage,
            )
        )
        self._looks.append(now)

    async def _until(self, reached: Callable[[Readings], bool], problem: str) -> None:
        deadline_s = time.monotonic() + _SETTLE_DEADLINE_S
        # Two looks in a row: the pages of one are not of the same instant.
        while not (reached(self._looks[-1]) and reached(self._looks[-2])):
            if time.monotonic() > deadline_s:
                raise NotSettled(f"{problem} after {_SETTLE_DEADLINE_S:.0f} s ({self._looks[-1].lag_records} records)")
            await asyncio.sleep(_LOOK_EVERY_S)


async def _put_all(client: Client, contents: Sequence[Movie]) -> None:
    waiting = deque(contents)

    async def work() -> None:
        while waiting:
            movie = waiting.popleft()
            await client.put_content(movie.content_id, movie.title, movie.description)

    async with asyncio.TaskGroup() as group:
        for _ in range(_PUTS_IN_FLIGHT):
            group.create_task(work())
