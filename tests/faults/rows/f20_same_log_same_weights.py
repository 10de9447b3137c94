"""F20: two learners of one log train by the log alone, one in peace, one killed five times."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infra.services import ServiceProcess
from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, EVENTS, Trial
from tests.running_system import RunningSystem, eventually

ROUND = 50
SETTINGS = {
    "MOARD_LEARNER_SCHEDULE": "log",
    "MOARD_LEARNER_ROUND_RECORDS": str(ROUND),
    "MOARD_LEARNER_BATCH_SIZE": "16",
    "MOARD_LEARNER_REPLAY_RATIO": "3",  # hundreds of small updates; the crashed learner takes some of them twice
    "MOARD_LEARNER_CHECKPOINT_INTERVAL_S": "0.3",
}


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.watched(stack, SETTINGS) as system:
        in_peace = system.checkpoints.with_name("in_peace")
        steady = system.another("learner", MOARD_MODEL_NAME="steady", MOARD_LEARNER_CHECKPOINT_PATH=str(in_peace))
        steady.start()
        with trial.users(system):
            trial.await_snapshot()
            for _ in range(trial.choose(full=5, short=1)):
                trial.pause(0.1, 1.0)
                crash(trial, system)
        fill_the_last_round(trial, system)
        trial.drain(system)
        drain_beside(trial, system, steady)
        for learner in (system.learner, steady):
            assert learner.stop() == 0, learner.log_tail()
        trial.note("crashed", state_of(system.checkpoints))
        trial.note("in_peace", state_of(in_peace))


def crash(trial: Trial, system: RunningSystem) -> None:
    """Kill the learner once it has trained beyond its last start."""
    trial.inject("kill -9 learner")
    system.learner.kill()
    with trial.recovering("the learner publishes"):
        system.learner.start()
        system.learner.wait_ready(DEADLINE_S)
        trial.await_snapshot()


def fill_the_last_round(trial: Trial, system: RunningSystem) -> None:
    """Add events until the log holds whole rounds: one that is not full is not learned from."""
    filler = trial.backend(system)
    while missing := -sum(trial.log_ends(system).values()) % ROUND:
        filler.deliver(filler.organic(missing))


def drain_beside(trial: Trial, system: RunningSystem, learner: ServiceProcess) -> None:
    end = sum(trial.log_ends(system).values())
    eventually(
        lambda: system.metric(learner.url, "moard_learner_position", topic=EVENTS) >= end, "all rounds", DEADLINE_S
    )


def state_of(folder: Path) -> dict[str, Any]:
    """Return step, offsets, and a hash of each array of the newest checkpoint, read as plain files."""
    newest = max(folder.glob("checkpoint-????????-????????"))
    manifest = json.loads((newest / "manifest.json").read_bytes())
    with np.load(newest / "arrays.npz", allow_pickle=False) as arrays:
        hashes = {name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in sorted(arrays.files)}
    return {"step": manifest["step"], "offsets": manifest["offsets"], "arrays": hashes}


def weights_are_equal(history: History) -> Iterator[str]:
    """Both learners have taken the same steps and hold the same bits."""
    both = [*history.noted("crashed"), *history.noted("in_peace")]
    if len(both) != 2:
        yield "the weights of one of the learners are not known"
        return
    crashed, in_peace = both
    if crashed["step"] == 0 or crashed["step"] != in_peace["step"]:
        yield f"steps: {crashed['step']} with crashes, {in_peace['step']} without"
    if crashed["offsets"] != in_peace["offsets"]:
        yield f"offsets: {crashed['offsets']} with crashes, {in_peace['offsets']} without"
    names = crashed["arrays"].keys() | in_peace["arrays"].keys()
    if other := sorted(name for name in names if crashed["arrays"].get(name) != in_peace["arrays"].get(name)):
        yield f"{len(other)} of {len(names)} arrays differ: {other[:5]}"


ROW = Row(
    "F20",
    fault="schedule=log: the same log with and without 5 crashes",
    must_hold="bit-equal weights at the same step",
    run=run,
    checks=(*EVERY, weights_are_equal),
)
