"""F3: a learner stands still, another takes over, and the first wakes up."""

from collections.abc import Iterator
from pathlib import Path

from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem, eventually

FENCED = 3
PATIENT = {"MOARD_LEARNER_WATCHDOG_S": "600"}
"""However long a busy machine takes for the second learner, the first shall not end for having seen no records."""


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.under_load(stack, PATIENT) as system:
        for _ in range(trial.choose(full=4, short=1)):
            trial.pause(0.2, 2.0)
            take_over(trial, system)


def take_over(trial: Trial, system: RunningSystem) -> None:
    paused, epoch = system.learner, trial.pointer.epoch
    trial.inject("SIGSTOP learner")
    paused.pause()
    written = checkpoints_of(system.checkpoints, epoch)
    system.learner = system.another("learner")
    with trial.recovering("the second learner publishes"):
        system.learner.start()
        system.learner.wait_ready(DEADLINE_S)
        eventually(lambda: trial.pointer.epoch > epoch, f"an epoch above {epoch}", DEADLINE_S)
    trial.inject("SIGCONT learner")
    paused.resume()
    eventually(lambda: not paused.running, "the first learner to end", DEADLINE_S)
    trial.note("exit", paused.exit_code())
    trial.await_snapshot()
    trial.note("late_checkpoints", sorted(checkpoints_of(system.checkpoints, epoch) - written))


def checkpoints_of(folder: Path, epoch: int) -> set[str]:
    return {path.name for path in folder.glob(f"checkpoint-{epoch:08d}-????????")}


def the_first_one_is_fenced(history: History) -> Iterator[str]:
    """Who wakes up to a newer learner ends, and writes no checkpoint before."""
    for code in history.noted("exit"):
        if code != FENCED:
            yield f"the paused learner ended with {code}, not {FENCED}"
    for names in history.noted("late_checkpoints"):
        if names:
            yield f"the paused learner still wrote {names}"


ROW = Row(
    "F3",
    fault="SIGSTOP learner, a second one takes over, SIGCONT",
    must_hold="the first neither publishes nor checkpoints, and ends; no id twice",
    run=run,
    checks=(*EVERY, the_first_one_is_fenced),
)
