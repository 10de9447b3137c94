"""The visitors come one after another; moard ranks for them and learns from their clicks."""

import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from examples.quickstart import world
from examples.quickstart.house import VECTOR_SIZE, House, opened
from examples.quickstart.world import World
from examples.scoreboard import Scoreboard

_PAUSE_S = 0.001  # between requests: the training thread gets its turn, and a person can watch
_FRAMES_PER_S = 4


async def run(requests: int, seed: int, console: Console) -> None:
    """Show a whole run."""
    generated = world.generate(contents=240, users=60, requests=requests, vector_size=VECTOR_SIZE, seed=seed)
    scoreboard = Scoreboard(
        {
            "popularity": world.popularity_clicks(generated.visitors),
            "random": world.random_clicks(generated.visitors),
        }
    )
    with tempfile.TemporaryDirectory(prefix="moard-quickstart-") as folder:
        async with opened(Path(folder)) as house:
            began_s = time.monotonic()
            await play(generated, house, scoreboard, console)
            took_s = time.monotonic() - began_s
    console.print(f"\n{scoreboard.requests:,} requests in {took_s:.0f} s", highlight=False)


async def play(generated: World, house: House, scoreboard: Scoreboard, console: Console) -> None:
    """Put the contents in, then let the visitors come one after another."""
    for content in generated.contents:
        await house.put(content.content_id, content.title, content.vector)
    with Live(console=console, auto_refresh=False, transient=False) as live:
        next_frame_s = 0.0
        for visitor in generated.visitors:
            shown = await house.rank(visitor.user_id, visitor.candidates, world.SLATE)
            clicked = [content_id for content_id in shown.content_ids if content_id in visitor.clicked]
            scoreboard.record(visitor.number, len(clicked))
            if clicked:
                await house.post(
                    [world.click(visitor.user_id, content_id, shown.impression_id) for content_id in clicked]
                )
            await asyncio.sleep(_PAUSE_S)
            # Without a terminal only the last frame is printed.
            if time.monotonic() >= next_frame_s or scoreboard.answered == scoreboard.requests:
                next_frame_s = time.monotonic() + 1 / _FRAMES_PER_S
                live.update(_frame(scoreboard, house.updates, shown.snapshot_version), refresh=console.is_terminal)


def _frame(scoreboard: Scoreboard, updates: int, version: int) -> Group:
    model = f"{updates} updates   ranked by snapshot {version}" if version else "no snapshot yet: ranked by popularity"
    head = Text(f"{scoreboard.answered:,} of {scoreboard.requests:,} requests   {model}")
    return Group(head, Text(), scoreboard.table())
