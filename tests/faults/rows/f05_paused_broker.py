"""F5: the broker stands still for longer than its own session, and goes on."""

from collections.abc import Iterator

from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.surroundings import (
    HEALED,
    Probe,
    answered_within,
    degraded_by,
    recovered_within,
    refusals_name_events,
    resident_mb,
)
from tests.faults.trial import Trial

APPEND_S = 5.0  # MOARD_INGEST_APPEND_DEADLINE_MS
GROWTH_MB = 100.0  # the producer's 32 MB and serving's 40 MB of impressions, with what holds them


def run(trial: Trial) -> None:
    with trial.stack(broker_profile="pause") as stack, trial.under_load(stack, backends=2) as system:
        probe, seconds = Probe(trial, system), trial.choose(full=30.0, short=7.0)
        pids = {"ingest": system.ingest.pid, "serving": system.serving.pid, "learner": system.learner.pid}
        before = {name: resident_mb(pid) for name, pid in pids.items()}
        trial.pause(0.2, 1.0)
        trial.inject(f"SIGSTOP broker for {seconds:.0f} s")
        stack.kafka.pause()
        trial.pause(seconds, seconds)
        trial.note("grown_mb", {name: round(resident_mb(pid) - before[name], 1) for name, pid in pids.items()})
        stack.kafka.resume()
        trial.inject(HEALED)
        with trial.recovering("events are acknowledged and learned"):
            probe.deliver()
            probe.learned()


def memory_is_bounded(history: History) -> Iterator[str]:
    """What waits for the broker is bounded."""
    for grown in history.noted("grown_mb"):
        for name, megabytes in grown.items():
            if megabytes > GROWTH_MB:
                yield f"{name} grew by {megabytes} MB"


ROW = Row(
    "F5",
    fault="SIGSTOP broker for 30 s at default sessions",
    must_hold="ingest answers within its deadline; memory is bounded; recovery within 15 s",
    run=run,
    checks=(
        *EVERY,
        refusals_name_events,
        answered_within("events", APPEND_S),
        degraded_by("impression"),
        memory_is_bounded,
        recovered_within(15.0),
    ),
)
