"""F2: the learner dies at each moment that leaves something half done for others to see."""

import signal
from collections.abc import Iterator

from libs.failpoints import POINTS
from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import eventually

LATEST_PASSING = 3
SHORT = ("checkpoint.before_rename", "snapshot.before_swap")


def run(trial: Trial) -> None:
    points = trial.choose(full=POINTS, short=SHORT)
    trial.note("points", list(points))
    with trial.stack() as stack, trial.under_load(stack) as system:
        system.learner.kill()
        for point in points:
            armed = f"{point}:{trial.chance.randint(1, LATEST_PASSING)}"
            system.learner = system.another("learner", MOARD_FAILPOINT=armed)
            system.learner.start()
            eventually(lambda: system.learner.exit_code() is not None, f"a crash at {armed}", DEADLINE_S)
            trial.inject(f"crash at {armed}")
            trial.note("died", [point, system.learner.exit_code()])
        with trial.recovering("the learner publishes"):
            system.learner = system.another("learner")
            system.learner.start()
            system.learner.wait_ready(DEADLINE_S)
            trial.await_snapshot()


def died_at_each_point(history: History) -> Iterator[str]:
    """Every crash point was met, and the process was killed there."""
    points = [point for noted in history.noted("points") for point in noted]
    if history.noted("died") != [[point, -signal.SIGKILL] for point in points]:
        yield f"expected a crash at each of {points}, saw {history.noted('died')}"


ROW = Row(
    "F2",
    fault="kill -9 learner at each named crash point",
    must_hold="as F1, at every point",
    run=run,
    checks=(*EVERY, died_at_each_point),
)
