"""F9: Redis is there and says nothing, for every service at once."""

from collections.abc import Iterator

from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.proxy import Proxy
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, Probe, answered_within, degraded_by, recovered_within
from tests.faults.trial import Trial

RANK_S = 0.35  # MOARD_SERVING_HISTORY_DEADLINE_MS, twice for the cold policy, and MOARD_SERVING_DATABASE_DEADLINE_MS
INGEST_S = 5.0


def run(trial: Trial) -> None:
    proxy = Proxy()
    with trial.stack() as stack, proxy.forwarding(stack.redis.port):
        settings = {"REDIS_URL": f"redis://{proxy.address}/0"}  # the watcher of the pointer goes by another way
        with trial.under_load(stack, settings) as system:
            seconds = trial.choose(full=30.0, short=4.0)
            trial.pause(0.2, 1.0)
            before = system.learner_metric("updates_total")
            trial.inject(f"Redis black hole for {seconds:.0f} s")
            proxy.black_hole()
            trial.pause(seconds, seconds)
            trial.note("updates", {"before": before, "after": system.learner_metric("updates_total")})
            proxy.heal()
            trial.inject(HEALED)
            with trial.recovering("a snapshot is published, and what was clicked is learned"):
                trial.await_snapshot()
                Probe(trial, system).learned()


def training_went_on(history: History) -> Iterator[str]:
    """The learner does not wait for the store of its snapshots."""
    for updates in history.noted("updates"):
        if updates["after"] <= updates["before"]:
            yield f"no update while Redis was away: {updates}"


ROW = Row(
    "F9",
    fault="Redis black hole for 30 s",
    must_hold="serving answers within its deadline; training goes on",
    run=run,
    checks=(
        *EVERY,
        answered_within("rank", RANK_S),
        answered_within("events", INGEST_S),
        degraded_by("history"),
        training_went_on,
        recovered_within(15.0),
    ),
)
