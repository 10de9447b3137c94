"""MovieLens-100K by the protocol of rl.md §9, in process: negatives by popularity, the harder ones.

The product's own agent, scorer and slates, settings only, beside what a user would pick otherwise, on the same streams.
``movielens-uniform`` is the same with uniform negatives, ``movielens-new`` with contents that nobody knows yet,
``movielens-live`` through the running system.
"""

from benchmarks.harness import Bench
from benchmarks.movielens_round import run_protocol
from examples.movielens import dataset


def run(bench: Bench) -> None:
    """Record clicks per request by fifths of the stream, and moard's lead over each other ranker in the last."""
    run_protocol(bench, dataset.load(), "popularity")
