"""Named points at which a test lets a process die, as a crash at that very moment would.

``MOARD_FAILPOINT=checkpoint.before_rename:2`` kills the process with SIGKILL when it passes that point for the second
time. Unset, as it is everywhere but in tests, passing a point costs a comparison.
"""

import os
import re
import signal
from typing import Final

import structlog

from libs.errors import RefusedStart

log = structlog.get_logger(__name__)

POINTS: Final = (
    "ledger.before_write",
    "ledger.before_rename",
    "ledger.after_rename",
    "rows.before_rename",
    "rows.after_rename",
    "checkpoint.before_manifest",
    "checkpoint.before_rename",
    "checkpoint.after_rename",
    "checkpoint.after_tidy",
    "snapshot.before_blob",
    "snapshot.before_swap",
    "snapshot.after_swap",
    "commit.before",
    "commit.after",
)
"""Around each effect that somebody else can see, in the order in which a learner passes them."""

_NAMED: Final = re.compile(r"([\w.]+)(?::([1-9]\d*))?")
_armed = ""
_left = 0


def arm(text: str) -> None:
    """Let this process die at a point, named as ``point`` or ``point:n``; nothing happens when ``text`` is empty.

    Raises
    ------
    RefusedStart
        There is no such point; the message names those that exist.
    """
    global _armed, _left
    if not text:
        return
    named = _NAMED.fullmatch(text)
    if named is None or named[1] not in POINTS:
        raise RefusedStart(f"MOARD_FAILPOINT={text} names no crash point: point or point:n, of {', '.join(POINTS)}")
    _armed, _left = named[1], int(named[2] or 1)
    log.critical("failpoint.armed", point=_armed, passing=_left)


def passing(point: str) -> None:
    """Die here if this is the point, and the passing, that was armed."""
    global _left
    if point != _armed:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
