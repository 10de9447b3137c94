"""Files of arrays: written until the disk has them, told apart by SHA-256, read without pickle."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file and wait until the disk has it."""
    if pickled := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"arrays of Python objects cannot be read back without pickle: {pickled}")
    with path.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], arrays))
        file.flush()
        os.fsync(file.fileno())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return what was written."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def sha256_of(path: Path) -> str:
    """Return what tells a file from every other, in memory of its own that does not grow with it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
