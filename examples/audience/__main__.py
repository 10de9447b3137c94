"""``python -m examples.audience``: a made-up audience for a moard that runs, so that there is something to watch.

240 contents about eight topics, 60 users with two favourite topics each. moard is told neither: it sees who was shown
what, and what was clicked, over the same two calls that a backend makes.
"""

import argparse
import asyncio
import sys

from rich.console import Console
from rich.progress import Progress

from examples.movielens.client import CallFailed, Client
from examples.quickstart import world
from examples.quickstart.world import Visitor, World
from examples.scoreboard import Scoreboard
from infra.ports import LOOPBACK
from infra.system import LocalPorts

_NEXT = "Look at it: the console at {serving}/ui, or type: moard status"


async def run(ingest: str, serving: str, requests: int, seed: int, console: Console) -> None:
    """Put the contents in, let the visitors come, and say what was clicked.

    Raises
    ------
    CallFailed
        A service refused a call, or did not answer for a minute.
    """
    made = world.generate(contents=240, users=60, requests=requests, vector_size=8, seed=seed)
    scoreboard = Scoreboard(
        {"popularity": world.popularity_clicks(made.visitors), "random": world.random_clicks(made.visitors)}
    )
    async with Client(serving, ingest, connections=1) as client:
        with Progress(console=console) as progress:
            await _fill(client, made, progress)
            await _visit(client, made, scoreboard, progress)
    console.print(scoreboard.table())


async def _fill(client: Client, made: World, progress: Progress) -> None:
    for content in progress.track(made.contents, description="contents"):
        await client.put_content(content.content_id, content.title, "")


async def _visit(client: Client, made: World, scoreboard: Scoreboard, progress: Progress) -> None:
    # One after the other: nobody asks for the next page before the click on this one has arrived.
    for visitor in progress.track(made.visitors, description="requests"):
        scoreboard.record(visitor.number, await _serve(client, visitor))


async def _serve(client: Client, visitor: Visitor) -> int:
    shown = await client.rank(visitor.user_id, visitor.candidates, world.SLATE)
    clicked = [content_id for content_id in shown.slate if content_id in visitor.clicked]
    if clicked:
        await client.post([world.click(visitor.user_id, content_id, shown.impression_id) for content_id in clicked])
    return len(clicked)


def main(arguments: list[str] | None = None) -> int:
    """Let the audience come; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.audience", description=__doc__)
    ports = LocalPorts()
    ingest, serving = (f"http://{LOOPBACK}:{port}" for port in (ports.ingest_port, ports.serving_port))
    parser.add_argument("--ingest", default=ingest, help="address of ingest (default %(default)s)")
    parser.add_argument("--serving", default=serving, help="address of serving (default %(default)s)")
    parser.add_argument("--requests", type=int, default=3_000, help="visits to play (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of who likes what (default %(default)s)")
    given = parser.parse_args(arguments)
    if given.requests < 1:
        parser.error("--requests must be at least 1")
    console = Console()
    try:
        asyncio.run(run(given.ingest, given.serving, given.requests, given.seed, console))
    except CallFailed as failed:
        console.print(f"{failed}\nIs moard up? Type: moard status", style="red", soft_wrap=True)
        return 1
    console.print(_NEXT.format(serving=given.serving), highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
