"""The last good snapshot on local disk: what a worker ranks with when it starts while Redis is away."""

import dataclasses
import os
import time
from pathlib import Path

import orjson
import structlog

from libs.adapters.ports import SnapshotMeta

log = structlog.get_logger(__name__)

# Snapshots come every second. One this old is as good a start as any, and the disk is left alone.
_SAVE_EVERY_S = 10.0


class LastGood:
    """One file: a line of JSON with the meta, then the blob. Replaced as a whole, verified by its reader.

    Several workers may share the folder; whoever saves last wins, and either file is good.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self._path = folder / f"{model}.snapshot"
        self._saved = -_SAVE_EVERY_S

    def due(self) -> bool:
        """Return whether the file is old enough to be replaced."""
        return time.monotonic() - self._saved >= _SAVE_EVERY_S

    def save(self, meta: SnapshotMeta, blob: bytes) -> None:
        """Replace the file. A disk that refuses is logged: ranking does not depend on it."""
        self._saved = time.monotonic()
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(orjson.dumps(dataclasses.replace(meta, trained=())) + b"\n" + blob)
            temporary.replace(self._path)
        except OSError as error:
            log.warning("snapshot.not_saved", path=str(self._path), error=str(error))

    def load(self) -> tuple[SnapshotMeta, bytes] | None:
        """Return what was saved, None when there is nothing or the first line is not a meta."""
        try:
            header, _, blob = self._path.read_bytes().partition(b"\n")
            return SnapshotMeta(**orjson.loads(header)), blob
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError, TypeError) as error:
            log.warning("snapshot.saved_one_unreadable", path=str(self._path), error=str(error))
            return None
