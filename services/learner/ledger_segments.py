"""Segments of the ledger: immutable files of event ids, named by the manifests of checkpoints.

Small segments are merged as they come, so that there are few of them and each id is written a logarithmic number of
times.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from libs.failpoints import passing
from services.learner.durable import rename_durably, write_synced
from services.learner.epochs import epoch_of

FOLDER: Final = "ledger"
_LARGEST_MERGE: Final = 1_000_000  # ids, 40 MB; older segments than that stay as they are


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of ids, one a line, in the order in which they took effect."""

    name: str
    count: int
    sha256: str
    newest_ms: int

    def dump(self) -> dict[str, Any]:
        """Return the segment as a manifest holds it."""
        return asdict(self)


def append(
    root: Path, segments: Sequence[Segment], ids: Sequence[str], name: str, now_ms: int, keep_ms: int
) -> tuple[Segment, ...]:
    """Write ids, merged with small segments before them, and return the segments that now make the ledger.

    Files that a merge replaces stay until no manifest names them any more. ``keep_ms`` of 0 keeps all.
    """
    kept = [segment for segment in segments if not keep_ms or segment.newest_ms >= now_ms - keep_ms]
    if not ids:
        return tuple(kept)
    lines = list(ids)
    while kept and kept[-1].count <= 2 * len(lines) and kept[-1].count + len(lines) <= _LARGEST_MERGE:
        lines = read(root, kept.pop()) + lines
    content = "".join(f"{line}\n" for line in lines).encode()
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    passing("ledger.before_write")
    write_synced(folder / f"{name}.tmp", content)
    passing("ledger.before_rename")
    rename_durably(folder / f"{name}.tmp", folder / f"{name}.ids")
    passing("ledger.after_rename")
    return (*kept, Segment(f"{name}.ids", len(lines), hashlib.sha256(content).hexdigest(), now_ms))


def read(root: Path, segment: Segment) -> list[str]:
    """Return the ids of one segment.

    Raises
    ------
    OSError, ValueError
        It is gone, or not what was written.
    """
    content = (root / FOLDER / segment.name).read_bytes()
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        raise ValueError(f"ledger segment {segment.name} is damaged")
    return content.decode().splitlines()


def forget(root: Path, named: set[str], epoch: int) -> None:
    """Delete segment files that no manifest names any more; what a newer learner is writing is not ours to judge."""
    folder = root / FOLDER
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in named and epoch_of(path.name) <= epoch:
            path.unlink(missing_ok=True)
