"""What an agent has many of and changes seldom, rows or contents, on disk: each is written when it changed.

A journal of pieces, one for each checkpoint, lies over blocks of neighbouring places. When the journal has grown, the
blocks that it touches are written anew, one after another, and it begins empty. All files are immutable and named by
the manifests of checkpoints; those that none names any more are deleted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from libs.failpoints import passing
from services.learner.array_files import read_arrays, sha256_of, write_arrays
from services.learner.durable import rename_durably
from services.learner.epochs import epoch_of

FOLDER: Final = "rows"
BLOCK: Final = 8_192
"""Places of a block: 7 MB of rows, what compaction holds in memory beside the journal."""

_JOURNAL_SHARE: Final = 8
"""The journal holds an eighth of what the blocks hold: a change costs nine writes at worst, disk an eighth more."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of places and what lies there."""

    name: str
    count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RowFiles:
    """Files that together hold every place: blocks by number, and the journal over them, oldest first."""

    blocks: Mapping[str, Piece]
    journal: tuple[Piece, ...]

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> Self:
        """Return what ``asdict`` made plain."""
        blocks = {number: Piece(**piece) for number, piece in plain["blocks"].items()}
        return cls(blocks, tuple(Piece(**piece) for piece in plain["journal"]))

    def dump(self) -> dict[str, Any]:
        """Return the files as a manifest holds them."""
        return asdict(self)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All files, those that lie deeper first."""
        return (*self.blocks.values(), *self.journal)


EMPTY: Final = RowFiles({}, ())


def append(root: Path, files: RowFiles, changed: Arrays, name: str, *, compact: bool = False) -> RowFiles:
    """Write what changed, ``at`` naming the places in ascending order, and return the files that now hold all.

    Nothing that ``files`` names is touched: an older manifest stays true. ``compact`` leaves nothing under the journal:
    what it says of a place is then all that the files returned hold of it.
    """
    if len(changed["at"]):
        files = RowFiles(files.blocks, (*files.journal, _write(root, f"{name}-journal", changed)))
    waiting = sum(piece.count for piece in files.journal)
    enough = max(BLOCK, sum(piece.count for piece in files.blocks.values()) // _JOURNAL_SHARE)
    if not waiting or (waiting <= enough and not compact):
        return files
    journal = _latest([_verified(root, piece) for piece in files.journal])
    return RowFiles({**files.blocks, **dict(_compacted(root, files, journal, name))}, ())


def read(root: Path, files: RowFiles) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of each file, which ``verify`` has seen; of a place what comes last counts."""
    for piece in files.pieces:
        yield read_arrays(root / FOLDER / piece.name)


def verify(root: Path, pieces: Iterable[Piece]) -> None:
    """Raise ``OSError`` or ``ValueError`` when a file is gone or not what was written."""
    for piece in pieces:
        if sha256_of(root / FOLDER / piece.name) != piece.sha256:
            raise ValueError(f"{FOLDER}/{piece.name} is damaged")


def forget(root: Path, named: set[str], epoch: int) -> None:
    """Delete files that no manifest names any more; what a newer learner is writing is not ours to judge."""
    folder = root / FOLDER
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in named and epoch_of(path.name) <= epoch:
            path.unlink(missing_ok=True)


def _compacted(root: Path, files: RowFiles, journal: Arrays, name: str) -> Iterator[tuple[str, Piece]]:
    numbers = journal["at"] // BLOCK
    for number in np.unique(numbers).tolist():
        begin, end = np.searchsorted(numbers, [number, number + 1])
        layers = [{column: array[begin:end] for column, array in journal.items()}]
        if (below := files.blocks.get(str(number))) is not None:
            layers.insert(0, _verified(root, below))
        yield str(number), _write(root, f"{name}-block-{number:06d}", _latest(layers))


def _latest(layers: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """Return the last that is said of each place, in ascending order."""
    joined = {column: np.concatenate([layer[column] for layer in layers]) for column in layers[0]}
    places, from_the_end = np.unique(joined["at"][::-1], return_index=True)
    last = len(joined["at"]) - 1 - from_the_end
    return {column: array[last] for column, array in joined.items()} | {"at": places}


def _verified(root: Path, piece: Piece) -> dict[str, np.ndarray]:
    verify(root, [piece])  # or a damaged file would be written on under a good hash
    return read_arrays(root / FOLDER / piece.name)


def _write(root: Path, name: str, arrays: Arrays) -> Piece:
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    aside, final = folder / f"{name}.tmp", folder / f"{name}.npz"
    write_arrays(aside, arrays)
    passing("rows.before_rename")
    rename_durably(aside, final)
    passing("rows.after_rename")
    return Piece(final.name, len(arrays["at"]), sha256_of(final))
