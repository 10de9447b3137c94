"""The short form of every row of the fault matrix."""

from pathlib import Path

import pytest

from tests.faults.row import Row, all_rows
from tests.faults.runner import run_trial

ROWS = all_rows()


@pytest.mark.stack
@pytest.mark.timeout(900)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_what_must_hold_holds(row: Row, tmp_path: Path) -> None:
    verdict = run_trial(row, 0, tmp_path / row.id, short=True)

    assert verdict.problems == ()
