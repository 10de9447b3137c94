"""Files that exist whole or not at all, whatever dies in between: write aside, fsync, rename, fsync the folder."""

import os
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def rename_durably(source: Path, target: Path) -> None:
    """Give a complete file or folder its final name, for good."""
    os.replace(source, target)  # noqa: PTH105 - tests make this very call fail
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and creations in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
