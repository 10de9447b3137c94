"""Telling our own processes from strangers, and ending them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.child import Child
from infra.processes import end, identify, is_running, send, wait_gone

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
TIDY = DEAF.replace("signal.SIG_IGN", "lambda *_: exit(7)")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    child = Child("sleeper", tmp_path / "sleeper.log")
    child.start(["sleep", "600"], os.environ, tmp_path)
    yield child
    child.kill()


def test_a_reused_pid_is_a_stranger(sleeper: Child) -> None:
    assert sleeper.identity is not None
    earlier = replace(sleeper.identity, birth="some other boot:12")
    assert not is_running(earlier)
    assert not send(earlier, signal.SIGKILL)
    assert end(earlier, grace_s=1)
    assert sleeper.running


def test_a_process_that_ended_is_gone_even_before_its_parent_asks() -> None:
    process = subprocess.Popen(["true"])
    identity = identify(process.pid)
    assert identity is None or wait_gone(identity, deadline_s=10)
    assert identify(process.pid) is None
    process.wait()


def test_the_birth_is_read_behind_a_name_with_spaces_and_parentheses(tmp_path: Path) -> None:
    program = tmp_path / "a) S (b"
    program.symlink_to("/bin/sleep")
    child = Child("odd", tmp_path / "odd.log")
    child.start([program, "600"], os.environ, tmp_path)
    assert child.running
    child.kill()
    assert not child.running


def test_ending_is_polite_first_and_firm_after_the_grace(tmp_path: Path) -> None:
    deaf = Child("deaf", tmp_path / "deaf.log")
    deaf.start([sys.executable, "-c", DEAF], os.environ, tmp_path)
    assert deaf.wait_until(lambda: "deaf" in deaf.log.read_text(), 20) == ""
    assert deaf.stop(grace_s=0.2) is False
    assert deaf.exit_code() == -signal.SIGKILL


def test_a_paused_process_that_handles_its_end_can_be_stopped(tmp_path: Path) -> None:
    tidy = Child("tidy", tmp_path / "tidy.log")
    tidy.start([sys.executable, "-c", TIDY], os.environ, tmp_path)
    assert tidy.wait_until(lambda: "deaf" in tidy.log.read_text(), 20) == ""
    tidy.signal(signal.SIGSTOP)
    assert tidy.stop(grace_s=20)
    assert tidy.exit_code() == 7


def test_a_kill_takes_the_whole_group(tmp_path: Path) -> None:
    child = Child("family", tmp_path / "family.log")
    child.start(["sh", "-c", "sleep 600 & echo $!; wait"], os.environ, tmp_path)
    assert child.wait_until(lambda: child.log.read_text().endswith("\n"), 20) == ""
    grandchild = identify(int(child.log.read_text()))
    assert grandchild is not None
    child.kill()
    assert wait_gone(grandchild, deadline_s=10)


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    child = Child("picky", tmp_path / "logs" / "picky.log")
    child.start(["sh", "-c", "echo the port is taken; exit 3"], os.environ, tmp_path)
    problem = child.wait_until(lambda: False, 20)
    assert "picky ended with exit code 3" in problem
    assert "the port is taken" in problem
    assert str(child.log) in problem


def test_a_slow_start_is_given_up_at_the_deadline(sleeper: Child) -> None:
    assert "was not ready after 0 s" in sleeper.wait_until(lambda: False, 0.05)
    assert sleeper.running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_survives_a_parent_that_dies(tmp_path: Path, number: int) -> None:
    script = f"""
import os, pathlib, signal, time
from infra.child import Child
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
child = Child("sleeper", pathlib.Path({str(tmp_path / "child.log")!r}))
child.start(["sleep", "600"], os.environ, pathlib.Path({str(tmp_path)!r}))
print(child.identity.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        child = identify(int(parent.stdout.readline()))
        assert child is not None
        try:
            parent.send_signal(number)
            assert wait_gone(child, deadline_s=20)
        finally:
            parent.kill()


def test_a_detached_child_survives_its_parent(tmp_path: Path) -> None:
    script = f"""
import os, pathlib
from infra.child import Child
child = Child("sleeper", pathlib.Path({str(tmp_path / "child.log")!r}), detached=True)
child.start(["sleep", "600"], os.environ, pathlib.Path({str(tmp_path)!r}))
print(child.identity.pid)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    child = identify(int(said))
    assert child is not None
    began = time.monotonic()
    assert end(child, grace_s=10)
    assert time.monotonic() - began < 10
