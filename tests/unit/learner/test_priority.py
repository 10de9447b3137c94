"""The learner lowers its own claim on a core, its session's too, and raises neither."""

import os
import subprocess
import sys
from pathlib import Path

_YIELD = """
import os, sys
from pathlib import Path
from services.learner.priority import yield_to_others
for niceness in sys.argv[2:]:
    yield_to_others(int(niceness), Path(sys.argv[1]))
print(os.nice(0))
"""


def _niceness_after(autogroup: Path, *asked: int, leader: bool = True) -> int:
    command = [sys.executable, "-c", _YIELD, str(autogroup), *map(str, asked)]
    return int(subprocess.run(command, check=True, capture_output=True, start_new_session=leader).stdout.split()[-1])


def test_it_takes_the_nice_value_and_gives_it_to_its_session(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    autogroup.write_text("")

    assert _niceness_after(autogroup, 15) == max(15, os.nice(0))
    assert autogroup.read_text() == "15"


def test_it_never_asks_for_more_than_it_has(tmp_path: Path) -> None:
    assert _niceness_after(tmp_path / "none", 15, 3) == max(15, os.nice(0))
    assert _niceness_after(tmp_path / "none", 0) == os.nice(0)


def test_a_session_that_others_share_is_left_alone(tmp_path: Path) -> None:
    autogroup = tmp_path / "autogroup"
    autogroup.write_text("")

    _niceness_after(autogroup, 15, leader=False)

    assert autogroup.read_text() == ""


def test_a_file_that_nobody_may_write_costs_nothing_but_a_warning(tmp_path: Path) -> None:
    assert _niceness_after(tmp_path, 15) == max(15, os.nice(0))
