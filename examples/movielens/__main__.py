"""``moard demo`` or ``python -m examples.movielens``: MovieLens-100K played through a whole moard on this machine."""

import argparse
import dataclasses
import sys
from pathlib import Path

from examples.movielens.demo import Options, run
from examples.movielens.pace import PaceSettings


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return its exit status."""
    pace = PaceSettings()
    parser = argparse.ArgumentParser(prog="moard demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the summary instead of staying up until Ctrl-C")
    parser.add_argument("--requests", type=_positive, metavar="N", help="play only the first N of the 18,783 requests")
    parser.add_argument(
        "--rate", type=_rate, default=pace.requests_per_s, help="requests a second at most (default %(default)s)"
    )
    parser.add_argument(
        "--in-flight",
        type=_positive,
        default=pace.in_flight,
        help="users served at the same moment (default %(default)s)",
    )
    parser.add_argument(
        "--negatives",
        choices=("popularity", "uniform"),
        default="popularity",
        help="how the contents beside the liked ones are drawn (default %(default)s, the harder one)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of negatives and their order (default %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path(".moard/demo"), help="for logs and state; emptied first (%(default)s)"
    )
    given = parser.parse_args(arguments)
    return run(
        Options(
            folder=given.folder,
            stay=not given.exit,
            requests=given.requests,
            negatives=given.negatives,
            seed=given.seed,
            pace=dataclasses.replace(pace, requests_per_s=given.rate, in_flight=given.in_flight),
        )
    )


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _rate(text: str) -> float:
    if not (rate := float(text)) > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return rate


if __name__ == "__main__":
    sys.exit(main())
