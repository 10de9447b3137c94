"""Checkpoints as folders: written aside, verified by SHA-256, complete or absent (streaming.md §3).

Rows, contents and ledger lie beside the folders in files that checkpoints share.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import orjson
import structlog

from libs.adapters.ports import TopicPartition
from libs.errors import RefusedStart
from libs.failpoints import passing
from services.learner import ledger_segments, row_files
from services.learner.array_files import read_arrays, sha256_of, write_arrays
from services.learner.durable import rename_durably, sync_folder, write_synced
from services.learner.epochs import epoch_of
from services.learner.ledger_segments import Segment
from services.learner.row_files import RowFiles

log = structlog.get_logger(__name__)

FORMAT: Final = 2
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
    rows: RowFiles = row_files.EMPTY
    contents: RowFiles = row_files.EMPTY
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
            shared = {part: RowFiles.load(document[part]) for part in ("rows", "contents")}
            return cls(**document | shared | {"ledger": tuple(Segment(**segment) for segment in document["ledger"])})
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
        write_arrays(aside / _ARRAYS, arrays)
        write_synced(aside / _VALUES, orjson.dumps(values))
        complete = replace(manifest, files={name: sha256_of(aside / name) for name in (_ARRAYS, _VALUES)})
        passing("checkpoint.before_manifest")
        write_synced(aside / _MANIFEST, complete.encode())
        sync_folder(aside)
        before_rename()
        passing("checkpoint.before_rename")
        rename_durably(aside, root / manifest.name)
        passing("checkpoint.after_rename")
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return complete


def read(root: Path, manifest: Manifest) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return arrays and values of a verified checkpoint."""
    folder = root / manifest.name
    arrays = read_arrays(folder / _ARRAYS)
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
            f"every checkpoint in {root} is damaged or of another build; restore one from a backup, or set "
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
        if sha256_of(root / name / file) != sha256:
            raise ValueError(f"{name}/{file} is damaged")
    for segment in manifest.ledger:
        ledger_segments.read(root, segment)
    row_files.verify(root, (*manifest.rows.pieces, *manifest.contents.pieces))
    return manifest


def revive(root: Path, manifest: Manifest, epoch: int) -> Manifest:
    """Make a verified checkpoint the newest, under a name of its own; those after it stay until they are tidied."""
    arrays, values = read(root, manifest)
    return write(root, replace(manifest, epoch=epoch), arrays, values, before_rename=lambda: None)


def size_bytes(root: Path, manifest: Manifest) -> int:
    """Return what a checkpoint takes on disk, files that it shares with others included."""
    shared = [root / row_files.FOLDER / piece.name for piece in (*manifest.rows.pieces, *manifest.contents.pieces)]
    shared += [root / ledger_segments.FOLDER / segment.name for segment in manifest.ledger]
    return sum(path.stat().st_size for path in (*(root / manifest.name).iterdir(), *shared))


def tidy(root: Path, keep: int, epoch: int) -> None:
    """Delete what crashes left behind, all but the newest checkpoints, and shared files that none of those names.

    A learner that was paused may come here when a newer one is already at work: it leaves alone what that one writes.
    """
    for path in root.glob("*.tmp"):
        if epoch_of(path.name) <= epoch:
            shutil.rmtree(path, ignore_errors=True)
    kept = names(root)
    for name in kept[keep:]:
        shutil.rmtree(root / name, ignore_errors=True)
    segments: set[str] = set()
    pieces: set[str] = set()
    for name in kept[:keep]:
        try:
            manifest = Manifest.decode((root / name / _MANIFEST).read_bytes())
        except (OSError, ValueError) as error:
            log.error("checkpoint.damaged", name=name, error=str(error))
            return  # its files cannot be told from garbage: keep all
        segments |= {segment.name for segment in manifest.ledger}
        pieces |= {piece.name for piece in (*manifest.rows.pieces, *manifest.contents.pieces)}
    ledger_segments.forget(root, segments, epoch)
    row_files.forget(root, pieces, epoch)
