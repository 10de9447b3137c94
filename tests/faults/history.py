"""What was seen while faults were injected, written down as it happened: all that the checker is given.

A history is a folder: ``history.jsonl.gz`` with one record a line, ``ledger.jsonl.gz`` with the event ids that the
learner's last checkpoint holds, and ``log.jsonl.gz`` with those of the topic.
"""

import gzip
import json
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

RECORDS = "history.jsonl.gz"
LEDGER = "ledger.jsonl.gz"
LOG = "log.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer to a client. ``status`` 0 is none at all: the connection failed, or the client's patience ended.

    ``call`` is ``rank`` or ``events``; ``version`` and ``degraded`` are serving's; ``named`` are the ids that a 503 of
    ingest asks to send again.
    """

    client: str
    call: str
    status: int
    took_s: float
    version: int | None = None
    degraded: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Events that ingest said the broker has."""

    event_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The snapshot that the pointer in Redis named from then on.

    The hashes are the pointer's, the metadata's, and that of the blob as it lay there.
    """

    version: int
    epoch: int
    step: int
    offsets: dict[str, int]
    pointer_sha256: str
    meta_sha256: str
    blob_sha256: str


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault, or its end."""

    what: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """How long something took to work again."""

    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Noted:
    """What a row's own check needs to know."""

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The trial could not be brought to its end."""

    why: str


Record: TypeAlias = Answered | Acknowledged | Published | Injected | Recovered | Noted | Failed
RecordT = TypeVar("RecordT", bound=Record)
_KINDS: dict[str, type[Record]] = {
    kind.__name__.lower(): kind for kind in (Answered, Acknowledged, Published, Injected, Recovered, Noted, Failed)
}


class Recorder:
    """Writes a history, from any thread."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._began = time.monotonic()
        self._writing = threading.Lock()
        self._lines = gzip.open(folder / RECORDS, "wt")  # noqa: SIM115 - closed by ``close``

    def add(self, record: Record) -> None:
        """Write down what is seen now."""
        with self._writing:
            at_s = round(time.monotonic() - self._began, 3)
            line = {"at_s": at_s, "kind": type(record).__name__.lower(), **asdict(record)}
            self._lines.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """End the history."""
        self._lines.close()


@dataclass(frozen=True, slots=True)
class History:
    """A finished history: records in order with their seconds, the ledger and the log."""

    records: list[tuple[float, Record]] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "History":
        """Read what was written."""
        lines = _read(folder / RECORDS)
        records = [(line.pop("at_s"), _KINDS[line.pop("kind")](**_tuples(line))) for line in lines]
        return cls(records, _read(folder / LEDGER), _read(folder / LOG))

    def of(self, kind: type[RecordT]) -> list[RecordT]:
        """Return the records of one kind, in order."""
        return [record for _, record in self.records if isinstance(record, kind)]

    def noted(self, name: str) -> list[Any]:
        """Return what was noted under a name, in order."""
        return [note.value for note in self.of(Noted) if note.name == name]

    @property
    def acknowledged(self) -> list[str]:
        """Ids of the events that were acknowledged; one that was sent twice may come twice."""
        return [event_id for record in self.of(Acknowledged) for event_id in record.event_ids]


def write_ids(path: Path, event_ids: Iterable[str]) -> None:
    """Write a ledger or a log into a history's folder."""
    with gzip.open(path, "wt") as lines:
        lines.writelines(json.dumps(event_id) + "\n" for event_id in event_ids)


def _read(path: Path) -> list[Any]:
    if not path.exists():
        return []
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _tuples(line: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) and name != "value" else value for name, value in line.items()
    }
