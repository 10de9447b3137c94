"""MovieLens-100K with a tenth of the contents new in the last fifth: slates of contents whose ids taught nothing yet.

The stream and what is counted: ``benchmarks/new_contents.py``.
"""

from benchmarks.harness import Bench
from benchmarks.movielens_round import (
    Pooled,
    announce,
    clicks_of_all,
    record_leads,
    record_pooled,
    seeds,
    users_of,
)
from benchmarks.new_contents import new_contents
from examples.movielens import dataset

PART = "new contents"


def run(bench: Bench) -> None:
    """Record clicks per request for new contents, and moard's lead over each other ranker there."""
    announce(bench)
    data, pooled = dataset.load(), Pooled()
    for seed in seeds(bench):
        made = new_contents(data.ratings, "popularity", seed)
        clicks = clicks_of_all(bench, data, made.stream, seed, twins=False)
        measured, user_ids = made.measured, users_of(made.stream)
        for name, series in clicks.items():
            mean = float(series[measured].mean())
            bench.record(name, f"clicks per request, {PART}", mean, "clicks", int(measured.sum()), seed)
        record_leads(bench, {name: c[measured] for name, c in clicks.items()}, user_ids[measured], PART, seed)
        pooled.add(clicks, user_ids, measured)
    record_pooled(bench, pooled, PART)
