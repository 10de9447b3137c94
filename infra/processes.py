"""Processes of our own: told apart from strangers, signalled as a group, and ended within a deadline."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid with the moment its process began: pids are reused, the pair is not."""

    pid: int
    birth: str


def identify(pid: int) -> ProcessIdentity | None:
    """Return who runs under ``pid`` now, None when nobody does (a zombie runs no more)."""
    birth = _birth_from_proc(pid) if PROC.is_dir() else _birth_from_ps(pid)
    return ProcessIdentity(pid, birth) if birth else None


def is_running(identity: ProcessIdentity) -> bool:
    """Return whether this very process still runs."""
    return identify(identity.pid) == identity


def send(identity: ProcessIdentity, signal_number: int) -> bool:
    """Signal the process and the group it leads; False when it is gone."""
    if not is_running(identity):
        return False
    try:
        os.killpg(identity.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def end(identity: ProcessIdentity, grace_s: float) -> bool:
    """Ask the process to stop, and kill it when it has not after ``grace_s``; True when it went by itself."""
    send(identity, signal.SIGTERM)
    send(identity, signal.SIGCONT)  # a stopped process sees its SIGTERM only when it goes on
    if wait_gone(identity, grace_s):
        return True
    send(identity, signal.SIGKILL)
    wait_gone(identity, grace_s)
    return False


def wait_gone(identity: ProcessIdentity, deadline_s: float) -> bool:
    """Return whether the process has gone, waiting for it up to ``deadline_s``."""
    deadline = time.monotonic() + deadline_s
    while is_running(identity):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _birth_from_proc(pid: int) -> str:
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()  # the command in parentheses may itself hold spaces and parentheses
    state, start_ticks = fields[0], fields[19]
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return "" if state in "ZX" else f"{boot}:{start_ticks}"


def _birth_from_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    state, _, started = answer.partition(" ")
    return "" if state.startswith("Z") else started.strip()
