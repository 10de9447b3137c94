"""The last good snapshot and the last known pin on local disk: what a worker starts with while the stores are away."""

import dataclasses
import os
import time
from pathlib import Path

import orjson
import structlog

from libs.adapters.model_ports import UNPINNED, Pin
from libs.adapters.ports import SnapshotMeta

log = structlog.get_logger(__name__)

# Snapshots come every second. One this old is as good a start as any, and the disk is left alone.
_SAVE_EVERY_S = 10.0


class LastGood:
    """One file for the snapshot, a line of JSON with the meta and then the blob, and a small one for the pin.

    Both are replaced as a whole; the snapshot is verified by its reader.

    Several workers may share the folder; whoever saves last wins, and either file is good.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self._path = folder / f"{model}.snapshot"
        self._pin_path = folder / f"{model}.pin"
        self._saved = -_SAVE_EVERY_S

    def due(self) -> bool:
        """Return whether the file is old enough to be replaced."""
        return time.monotonic() - self._saved >= _SAVE_EVERY_S

    def save(self, meta: SnapshotMeta, blob: bytes) -> None:
        """Replace the file. A disk that refuses is logged: ranking does not depend on it."""
        self._saved = time.monotonic()
        _replace(self._path, orjson.dumps(dataclasses.replace(meta, trained=())) + b"\n" + blob)

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

    def save_pin(self, pin: Pin) -> None:
        """Remember what is pinned, as ``save`` remembers the snapshot."""
        _replace(self._pin_path, orjson.dumps(pin))

    def load_pin(self) -> Pin:
        """Return what was pinned when a worker looked last."""
        try:
            return Pin(**orjson.loads(self._pin_path.read_bytes()))
        except FileNotFoundError:
            return UNPINNED
        except (OSError, orjson.JSONDecodeError, TypeError) as error:
            log.warning("pin.saved_one_unreadable", path=str(self._pin_path), error=str(error))
            return UNPINNED


def _replace(path: Path, octets: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(octets)
        temporary.replace(path)
    except OSError as error:
        log.warning("snapshot.not_saved", path=str(path), error=str(error))
