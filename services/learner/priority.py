"""The learner can yield to others: what it learns later costs freshness, a ranking that waits for a core its p99."""

import os
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_AUTOGROUP: Final = Path("/proc/self/autogroup")


def yield_to_others(niceness: int, autogroup: Path = _AUTOGROUP) -> None:
    """Lower this process's claim on a busy core to ``niceness``, 0 to 19; never raises it.

    Notes
    -----
    Holds for threads that are started afterwards. Linux with autogroups (sched(7)) weighs sessions against each other
    and a nice value only within one: a leader of a session lowers that too. In a container both mean little beside
    other containers, whose shares are its runtime's to set.
    """
    os.nice(max(0, niceness - os.nice(0)))
    if niceness and os.getsid(0) == os.getpid() and autogroup.exists():
        try:
            autogroup.write_text(str(niceness))
        except OSError as error:  # a sandbox that shows the file and lets nobody write it
            log.warning("learner.session_not_niced", niceness=niceness, error=repr(error))
