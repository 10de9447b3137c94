"""Checkpoints as folders: written aside, verified by SHA-256, complete or absent (streaming.md §3)."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, cast

import numpy as np
import orjson
import structlog

from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart
from services.learner import ledger_segments
from services.learner.durable import rename_durably, sync_folder, write_synced
from services.learner.ledger_segments import Segment

log = structlog.get_logger(__name__)

FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_ARRAYS: Final = "arrays.npz"
_VALUES: Final = "values.json"
_NAME: Final = re.compile(r"checkpoint-\d{8}-\d{8}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is, small enough to look at before anything is read."""

    epoch: int
    number: int
    created_ms: int
    cluster_id: str
    config: Mapping[str, Any]
    reward_version: str
    offsets: Mapping[str, int]
    last_version: int
    step: int
    files: Mapping[str, str]
    ledger: tuple[Segment, ...]
    format: int = FORMAT

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder; names sort by epoch, then by age."""
        return f"checkpoint-{self.epoch:08d}-{self.number:08d}"

    def encode(self) -> bytes:
        """Return the manifest as JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Read a manifest; raises ``ValueError`` when it is none."""
        document = orjson.loads(content)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"not a manifest of format {FORMAT}")
        try:
            return cls(**document | {"ledger": tuple(Segment(**segment) for segment in document["ledger"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a manifest: {error}") from error

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each partition."""
        parted = {name.rpartition(":"): offset for name, offset in self.offsets.items()}
        return {TopicPartition(topic, int(partition)): offset for (topic, _, partition), offset in parted.items()}


def write(
    root: Path,
    manifest: Manifest,
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    before_rename: Callable[[], None],
) -> Manifest:
    """Write one checkpoint and return its manifest with the hashes of its files.

    Parameters
    ----------
    before_rename
        Last moment to object: what it raises leaves nothing behind.
    """
    aside = root / f"{manifest.name}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _write_arrays(aside / _ARRAYS, arrays)
        write_synced(aside / _VALUES, orjson.dumps(values))
        complete = replace(manifest, files={name: _sha256(aside / name) for name in (_ARRAYS, _VALUES)})
        write_synced(aside / _MANIFEST, complete.encode())
        sync_folder(aside)
        before_rename()
        rename_durably(aside, root / manifest.name)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return complete


def read(root: Path, manifest: Manifest) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and values of a verified checkpoint."""
    folder = root / manifest.name
    with np.load(folder / _ARRAYS, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    values = orjson.loads((folder / _VALUES).read_bytes())
    return arrays, values


def names(root: Path) -> list[str]:
    """Return the names of all checkpoints of a folder, newest first."""
    found = [path.name for path in root.iterdir()] if root.exists() else []
    return sorted(filter(_NAME.fullmatch, found), reverse=True)


def newest_valid(root: Path) -> Manifest | None:
    """Return the newest checkpoint whose files are what was written; None when there never was one.

    Raises
    ------
    RefusedStart
        There are checkpoints, and all are damaged: to start from nothing is for a person to decide.
    """
    found = names(root)
    for name in found:
        try:
            return verify(root, name)
        except (OSError, ValueError) as error:
            log.error("checkpoint.damaged", name=name, error=str(error))
    if found:
        raise RefusedStart(
            f"every checkpoint in {root} is damaged; restore one from a backup, or set "
            f"MOARD_LEARNER_ABANDON_CHECKPOINT={found[0]} to learn again from the beginning of the log"
        )
    return None


def verify(root: Path, name: str) -> Manifest:
    """Return a checkpoint's manifest once every file it names is found to be what was written.

    Raises
    ------
    OSError, ValueError
        One is not; the message names it.
    """
    manifest = Manifest.decode((root / name / _MANIFEST).read_bytes())
    if manifest.name != name:
        raise ValueError(f"the manifest in {name} belongs to {manifest.name}")
    for file, sha256 in manifest.files.items():
        if _sha256(root / name / file) != sha256:
            raise ValueError(f"{name}/{file} is damaged")
    for segment in manifest.ledger:
        ledger_segments.read(root, segment)
    return manifest


def tidy(root: Path, keep: int) -> None:
    """Delete what crashes left behind, all but the newest checkpoints, and ledger segments none of those names."""
    for path in root.glob("*.tmp"):
        shutil.rmtree(path, ignore_errors=True)
    kept = names(root)
    for name in kept[keep:]:
        shutil.rmtree(root / name, ignore_errors=True)
    named: set[str] = set()
    for name in kept[:keep]:
        try:
            manifest = Manifest.decode((root / name / _MANIFEST).read_bytes())
        except (OSError, ValueError) as error:
            log.error("checkpoint.damaged", name=name, error=str(error))
            return  # its segments cannot be told from garbage: keep all
        named |= {segment.name for segment in manifest.ledger}
    ledger_segments.forget(root, named)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if pickled := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"arrays of Python objects cannot be read back without pickle: {pickled}")
    with path.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], arrays))
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
