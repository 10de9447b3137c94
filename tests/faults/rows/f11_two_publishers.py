"""F11: two learners at work on the same folder and the same pointer, one started late, or both at once."""

from collections.abc import Iterator

from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem, eventually

FENCED = 3


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.under_load(stack) as system:
        for _ in range(trial.choose(full=3, short=1)):
            trial.pause(0.2, 1.0)
            trial.inject("a second learner starts")
            system.another("learner").start()
            one_remains(trial, system)
        for _ in range(trial.choose(full=2, short=0)):
            system.learner.kill()
            trial.inject("two learners start at once")
            for _ in range(2):
                system.another("learner").start()
            one_remains(trial, system)


def one_remains(trial: Trial, system: RunningSystem) -> None:
    """Return once one learner is left at work, which becomes the system's."""
    started = dict.fromkeys((system.learner, *system.further))
    running = [learner for learner in started if learner.running]
    with trial.recovering("one learner remains, and publishes"):
        eventually(lambda: sum(learner.running for learner in running) == 1, "one learner to end", DEADLINE_S)
        (system.learner,) = (learner for learner in running if learner.running)
        system.learner.wait_ready(DEADLINE_S)
        trial.await_snapshot()
    trial.note("exits", [learner.exit_code() for learner in running if not learner.running])
    trial.note("remaining_epoch", trial.pointer.epoch)


def the_older_one_is_fenced(history: History) -> Iterator[str]:
    """Of two learners one ends, as fenced, and the epoch of the other is higher than any before."""
    for codes in history.noted("exits"):
        if codes != [FENCED]:
            yield f"of two learners these ended: {codes}, expected one with {FENCED}"
    epochs = history.noted("remaining_epoch")
    if epochs != sorted(set(epochs)):
        yield f"the epochs that remained do not rise: {epochs}"


ROW = Row(
    "F11",
    fault="two publishers",
    must_hold="only the higher epoch wins; pointer and blob match by hash",
    run=run,
    checks=(*EVERY, the_older_one_is_fenced),
)
