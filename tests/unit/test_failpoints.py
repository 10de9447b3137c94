"""A process dies exactly where it was told to, and nowhere unless it was."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from libs import failpoints
from libs.errors import RefusedStart

ROOT = Path(__file__).parents[2]
PROGRAM = """
from libs.failpoints import arm, passing
arm({armed!r})
for passed in range(1, 4):
    passing("commit.before")
    passing("commit.after")
    print(passed, flush=True)
"""


@pytest.mark.parametrize(
    ("armed", "passed", "exit_code"),
    [
        ("", ["1", "2", "3"], 0),
        ("commit.after", [], -signal.SIGKILL),
        ("commit.before:3", ["1", "2"], -signal.SIGKILL),
        ("commit.before:4", ["1", "2", "3"], 0),
    ],
)
def test_it_dies_at_the_named_passing(armed: str, passed: list[str], exit_code: int) -> None:
    program = PROGRAM.format(armed=armed)
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    lines = [line for line in ended.stdout.splitlines() if line.isdecimal()]
    assert (lines, ended.returncode) == (passed, exit_code)


@pytest.mark.parametrize("text", ["commit", "commit.before:", "commit.before:0", "commit.before:x", ":1"])
def test_what_names_no_point_is_refused(text: str) -> None:
    with pytest.raises(RefusedStart, match=r"MOARD_FAILPOINT=.*commit\.before"):
        failpoints.arm(text)


def test_each_point_is_passed_somewhere_and_no_other() -> None:
    code = [path for folder in ("libs", "services") for path in (ROOT / folder).rglob("*.py")]
    passed = [name for path in code for name in re.findall(r'\bpassing\("([\w.]+)"\)', path.read_text())]

    assert sorted(passed) == sorted(failpoints.POINTS)
