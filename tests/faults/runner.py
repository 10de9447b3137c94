"""Runs trials, keeps their histories, and judges histories, fresh ones and stored ones alike."""

import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults.checker import Verdict, judge
from tests.faults.history import Failed, History, Recorder
from tests.faults.row import Row
from tests.faults.trial import Trial


def run_trial(row: Row, seed: int, folder: Path, *, short: bool) -> Verdict:
    """Run one trial and return the verdict; its history is in ``folder``, and of a failed one the logs too."""
    shutil.rmtree(folder, ignore_errors=True)
    scene = folder.absolute() / "scene"  # services have folders of their own to be relative to
    history = Recorder(folder)
    trial = Trial(seed, short, scene, history)
    try:
        row.run(trial)
    except Exception as error:  # noqa: BLE001 - a failure is a finding, and the other trials still get their turn
        history.add(Failed(f"{error!r}"[:2_000]))
        (folder / "failure.txt").write_text(traceback.format_exc())
    finally:
        trial.close()
        history.close()
    verdict = check(row, seed, folder)
    if not verdict.problems:
        shutil.rmtree(scene, ignore_errors=True)
    return verdict


def check(row: Row, seed: int, folder: Path) -> Verdict:
    """Return the verdict on a stored history."""
    return judge(row.id, seed, History.load(folder), row.checks)


def folder_of(root: Path, row: Row, seed: int) -> Path:
    """Return where the history of a trial is kept."""
    return root / f"{row.id}-{seed}"


def stored(root: Path, rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Return the trials whose histories are kept, row by row, by seed."""
    found = {row.id: [int(folder.name.partition("-")[2]) for folder in root.glob(f"{row.id}-*")] for row in rows}
    return [(row, seed) for row in rows for seed in sorted(found[row.id])]
