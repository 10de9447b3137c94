"""MovieLens-100K as in ``movielens``, with negatives drawn uniformly: mostly contents that few people know."""

from benchmarks.harness import Bench
from benchmarks.movielens_play import UNIFORM_EXPLORATION, UNIFORM_SETTINGS
from benchmarks.movielens_round import run_protocol
from examples.movielens import dataset


def run(bench: Bench) -> None:
    """Record clicks per request by fifths of the stream, and moard's lead over each other ranker in the last."""
    run_protocol(bench, dataset.load(), "uniform", UNIFORM_SETTINGS, UNIFORM_EXPLORATION)
