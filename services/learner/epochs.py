"""Epochs: which learner of this folder is the one that counts (streaming.md §3)."""

import re
from pathlib import Path
from typing import Final

from libs.adapters.ports import SnapshotStore
from libs.errors import Fenced
from services.learner.durable import sync_folder

_CLAIM: Final = re.compile(r"epoch-(\d{8})")
_NAMED: Final = re.compile(r"(?:epoch|checkpoint)-(\d{8})(?:-\d{8})?")
_WRITTEN: Final = re.compile(r"(?:checkpoint-)?(\d{8})-\d{8}")


def epoch_of(name: str) -> int:
    """Return the epoch of the learner that wrote a file or folder, 0 for a name that bears none.

    >>> epoch_of("checkpoint-00000002-00000007.tmp"), epoch_of("00000002-00000007-rows-journal.npz"), epoch_of("a.ids")
    (2, 2, 0)
    """
    match = _WRITTEN.match(name)
    return int(match[1]) if match else 0


def highest_epoch(folder: Path) -> int:
    """Return the highest epoch that claimed a folder or wrote into it, 0 when none did."""
    found = (_NAMED.fullmatch(path.name) for path in (folder.iterdir() if folder.exists() else ()))
    return max((int(match[1]) for match in found if match), default=0)


async def claim_epoch(folder: Path, store: SnapshotStore) -> int:
    """Claim a new epoch in store and folder; learners with a lower one are fenced from both.

    Raises
    ------
    StoreUnavailable
        The store did not answer; nothing was claimed.
    """
    while True:
        epoch = await store.claim_epoch(highest_epoch(folder) + 1)
        if _claim(folder, epoch):
            return epoch


def fence(folder: Path) -> int:
    """Claim a new epoch in a folder alone; a learner that still writes there is fenced and ends."""
    while not _claim(folder, epoch := highest_epoch(folder) + 1):
        pass
    return epoch


def require_epoch(folder: Path, epoch: int) -> None:
    """Raise ``Fenced`` when a newer learner has claimed the folder."""
    if (highest := highest_epoch(folder)) > epoch:
        raise Fenced(f"epoch {highest} owns {folder}, this learner has {epoch}")


def _claim(folder: Path, epoch: int) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / f"epoch-{epoch:08d}").open("x").close()
    except FileExistsError:  # another learner was faster: go above it
        return False
    _forget_older(folder, epoch)
    return True


def _forget_older(folder: Path, epoch: int) -> None:
    # The highest claim alone fences.
    for path in folder.iterdir():
        match = _CLAIM.fullmatch(path.name)
        if match and int(match[1]) < epoch:
            path.unlink(missing_ok=True)
    sync_folder(folder)
