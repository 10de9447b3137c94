"""A disk small enough to be filled: a tmpfs where this may be mounted, else a folder that refuses."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_SIZE_MB: Final = 64
_FILLER: Final = "filler"
_CHUNK: Final = 65_536


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A folder on it. ``kind`` tells what a full disk is here: ``tmpfs`` has no space, ``folder`` no permission."""

    folder: Path
    kind: Literal["tmpfs", "folder"]

    def fill(self) -> None:
        """Leave no space."""
        if self.kind == "folder":
            self.folder.chmod(0o500)
            return
        with (self.folder / _FILLER).open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(_CHUNK))
            except OSError:
                return

    def free(self) -> None:
        """Give the space back."""
        if self.kind == "folder":
            self.folder.chmod(0o700)
        else:
            (self.folder / _FILLER).unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Make the folder a disk of its own where that is allowed (root), and take it away at the end.

    Without root, whom no permission stops, a full disk is a folder that may not be written to.
    """
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield SmallDisk(folder, "folder")
        return
    try:
        yield SmallDisk(folder, "tmpfs")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
