"""F1: the learner is killed again and again, at work and while it starts."""

from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.under_load(stack) as system:
        for _ in range(trial.choose(full=20, short=2)):
            trial.pause(0.1, 1.5)
            trial.inject("kill -9 learner")
            system.learner.kill()
            system.learner.start()
            if trial.chance.random() < 0.5:  # the other half dies before it has published, some before they work
                recover(trial, system)
            else:
                trial.pause(0.0, 6.0)
        recover(trial, system)


def recover(trial: Trial, system: RunningSystem) -> None:
    with trial.recovering("the learner publishes"):
        system.learner.wait_ready(DEADLINE_S)
        trial.await_snapshot()


ROW = Row(
    "F1",
    fault="kill -9 learner at random",
    must_hold="acknowledged ⊆ ledger; each id once; versions rise; published offsets never go back",
    run=run,
)
