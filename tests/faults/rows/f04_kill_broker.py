"""F4: the broker is killed again and again while events come in."""

from tests.faults.checker import EVERY
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, Probe, refusals_name_events
from tests.faults.trial import Trial


def run(trial: Trial) -> None:
    with trial.stack(broker_profile="kill") as stack, trial.under_load(stack, backends=2) as system:
        probe = Probe(trial, system)
        for _ in range(trial.choose(full=10, short=2)):
            trial.inject("kill -9 broker")
            stack.kafka.kill()
            trial.pause(0.0, 2.0)
            stack.kafka.start()
            trial.inject(HEALED)
            with trial.recovering("events are acknowledged"):
                probe.deliver()
            trial.pause(1.0, 3.0)  # for those that waited beside the probe: their patience is for one outage
        with trial.recovering("the learner has read all"):
            probe.learned()


ROW = Row(
    "F4",
    fault="kill -9 broker under load",
    must_hold="acknowledged ⊆ log; once in the ledger; ingest answers 202 or 503, and a 503 names the ids again",
    run=run,
    checks=(*EVERY, refusals_name_events),
)
