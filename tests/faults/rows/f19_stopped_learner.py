"""F19: the learner is stopped as an operator stops it, at work and at rest."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, EVENTS, Trial
from tests.running_system import RunningSystem

LONGEST_SAVE_S = 10.0


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.watched(stack) as system:
        for _ in range(trial.choose(full=3, short=1)):
            with trial.users(system):
                trial.await_snapshot()
                trial.pause(0.5, 2.0)
                stop_and_start(trial, system, "at_work")
                trial.await_snapshot()
            trial.drain(system)
            stop_and_start(trial, system, "at_rest")
            trial.drain(system)
            trial.note("read_again", system.learner_metric("records_consumed_total", topic=EVENTS))


def stop_and_start(trial: Trial, system: RunningSystem, when: str) -> None:
    positions = {
        str(partition): system.learner_metric("position", topic=EVENTS, partition=str(partition))
        for partition in range(4)
    }
    trial.inject(f"SIGTERM learner {when.replace('_', ' ')}")
    began = time.time()
    code = system.learner.stop(DEADLINE_S)
    saved_s = newest_checkpoint(system).stat().st_mtime - began  # negative: nothing had come since the one before
    trial.note("stopped", {"code": code, "saved_s": round(saved_s, 3)})
    saved = newest_offsets(system)
    trial.note("unsaved", {tp: [saved.get(tp, 0), read] for tp, read in positions.items() if saved.get(tp, 0) < read})
    with trial.recovering("the learner is ready"):
        system.learner.start()
        system.learner.wait_ready(DEADLINE_S)


def newest_checkpoint(system: RunningSystem) -> Path:
    return max(system.checkpoints.glob("checkpoint-????????-????????"))


def newest_offsets(system: RunningSystem) -> dict[str, Any]:
    offsets = json.loads((newest_checkpoint(system) / "manifest.json").read_bytes())["offsets"]
    return {name.rpartition(":")[2]: offset for name, offset in offsets.items() if name.startswith(f"{EVENTS}:")}


def nothing_is_read_again(history: History) -> Iterator[str]:
    """The last checkpoint is there in time, holds all that was read, and the next start reads nothing of it again."""
    for stop in history.noted("stopped"):
        if stop["code"] != 0 or stop["saved_s"] > LONGEST_SAVE_S:
            yield f"the learner ended with {stop['code']}, its last checkpoint came after {stop['saved_s']:.1f} s"
    for unsaved in history.noted("unsaved"):
        if unsaved:
            yield f"partitions (saved, read): {unsaved}"
    for records in history.noted("read_again"):
        if records:
            yield f"{records:.0f} records were read again"


ROW = Row(
    "F19",
    fault="SIGTERM learner",
    must_hold="final checkpoint within 10 s; the next start reads 0 records again",
    run=run,
    checks=(*EVERY, nothing_is_read_again),
)
