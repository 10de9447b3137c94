"""``make quickstart`` or ``python -m examples.quickstart``: watch the loop learn in one process, in about ten seconds.

A generated world of 240 contents about eight topics is visited by 60 users, each with two favourite topics. moard is
told nothing about topics or tastes; it sees vectors and clicks.
"""

import argparse
import asyncio
import logging
import os
import sys

import structlog
from rich.console import Console

_REQUESTS = 1_200
_NEXT = """\
What to try next:
  make quickstart ARGS='--seed 1'   another world
  make demo                         the same loop on real Kafka, Redis and MariaDB, with MovieLens-100K
  examples/quickstart/house.py      how the three services are put together"""


def main(arguments: list[str] | None = None) -> int:
    """Run the quickstart; return its exit status."""
    parser = argparse.ArgumentParser(prog="moard quickstart", description=__doc__)
    parser.add_argument("--requests", type=int, default=_REQUESTS, help="visits to play (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the world (default %(default)s)")
    given = parser.parse_args(arguments)
    if given.requests < 1:
        parser.error("--requests must be at least 1")
    console = Console()
    console.print("starting the three services in this process …", highlight=False)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    # One numpy and torch thread, set before they read it: with a busy second core two are slower (rl.md §8).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from examples.quickstart.play import run

    try:
        asyncio.run(run(given.requests, given.seed, console))
    except KeyboardInterrupt:
        return 130
    console.print(_NEXT, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
