"""F16: the disk under the checkpoint folder is full."""

from collections.abc import Iterator

from services.learner import checkpoint_files
from tests.faults.checker import EVERY
from tests.faults.full_disk import SmallDisk, small_disk
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, Probe
from tests.faults.trial import DEADLINE_S, EVENTS, Trial
from tests.running_system import RunningSystem, eventually

_ON_ITS_WAY_S = 1.0  # what was taken before the loop heard of the failure
_WATCHED_S = 3.0


def run(trial: Trial) -> None:
    with small_disk(trial.folder / "checkpoints") as disk, trial.stack() as stack:
        trial.note("disk", disk.kind)
        with trial.under_load(stack) as system:
            for _ in range(trial.choose(full=3, short=1)):
                trial.pause(0.5, 2.0)
                fill_and_free(trial, system, disk)


def fill_and_free(trial: Trial, system: RunningSystem, disk: SmallDisk) -> None:
    failures = system.learner_metric("checkpoint_failures_total")
    trial.inject("full disk")
    disk.fill()
    eventually(lambda: system.learner_metric("checkpoint_failures_total") > failures, "the alarm", DEADLINE_S)
    trial.note("alarm", True)
    trial.pause(_ON_ITS_WAY_S, _ON_ITS_WAY_S)
    position = read_so_far(system)
    trial.pause(_WATCHED_S, _WATCHED_S)
    trial.note("read_meanwhile", read_so_far(system) - position)
    intact = checkpoint_files.newest_valid(system.checkpoints)
    trial.note("intact", None if intact is None else intact.name)
    disk.free()
    trial.inject(HEALED)
    with trial.recovering("a checkpoint is written and reading goes on"):
        eventually(lambda: newest(system) > (intact.name if intact else ""), "a checkpoint", DEADLINE_S)
        Probe(trial, system).learned()


def newest(system: RunningSystem) -> str:
    return max(checkpoint_files.names(system.checkpoints), default="")


def read_so_far(system: RunningSystem) -> float:
    return system.learner_metric("position", topic=EVENTS)


def the_learner_waits(history: History) -> Iterator[str]:
    """The alarm rises, the last checkpoint is whole, and nothing more is read than was on its way."""
    if not history.noted("alarm"):
        yield "no alarm"
    if None in history.noted("intact") or not history.noted("intact"):
        yield f"checkpoints left intact: {history.noted('intact')}"
    if any(history.noted("read_meanwhile")):
        yield f"records read while the disk was full: {history.noted('read_meanwhile')}"


ROW = Row(
    "F16",
    fault="disk full under the checkpoint folder",
    must_hold="the old checkpoint is intact; intake pauses; an alarm metric rises; learning resumes",
    run=run,
    checks=(*EVERY, the_learner_waits),
)
