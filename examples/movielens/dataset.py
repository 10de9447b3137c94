"""MovieLens-100K (GroupLens), read from the ``recbole`` wheel, which ships it as example data.

The wheel is downloaded by the installed package client from the configured index into a cache folder, nothing in it is
imported or installed, and two members of the archive are read. The data never enters the repository.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from libs.errors import RefusedStart

CACHE = Path(".moard/cache")
_REQUIREMENT = "recbole==1.2.1"
_WHEEL = "recbole-1.2.1-*.whl"
_INSIDE = "recbole/dataset_example/ml-100k/"
_RATINGS, _CONTENTS = "ml-100k.inter", "ml-100k.item"
_SHA256 = {
    _RATINGS: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    _CONTENTS: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_DOWNLOAD_DEADLINE_S = 120  # two megabytes


class DataUnavailable(RefusedStart):
    """The data could not be fetched. Consequence: the demo does not start; the quickstart needs no data."""


@dataclass(frozen=True, slots=True)
class Movie:
    """One content. ``year`` is empty for the one movie that has none."""

    content_id: int
    title: str
    year: str
    genres: tuple[str, ...]

    @property
    def description(self) -> str:
        """Year and genres as one line of text, what Doc2Vec reads beside the title."""
        return " ".join((self.year, *self.genres)).strip()


@dataclass(frozen=True, slots=True)
class Ratings:
    """100,000 ratings as columns, in time order; ratings of the same second keep the order of the file."""

    user_ids: NDArray[np.int64]
    content_ids: NDArray[np.int64]
    ratings: NDArray[np.float32]
    timestamps_s: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True, slots=True)
class MovieLens:
    """The whole data set."""

    contents: tuple[Movie, ...]
    ratings: Ratings


def load(cache: Path = CACHE) -> MovieLens:
    """Return the data set, downloading its wheel into ``cache`` when it is not there yet.

    Raises
    ------
    DataUnavailable
        When the wheel cannot be had, or does not hold the pinned files; the message says what to do instead.
    """
    wheel = _wheel(cache)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = {name: archive.read(_INSIDE + name) for name in _SHA256}
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataUnavailable(_advice(f"{wheel} is not the wheel it should be ({error}); delete it")) from error
    for name, blob in members.items():
        if hashlib.sha256(blob).hexdigest() != _SHA256[name]:
            raise DataUnavailable(_advice(f"{name} in {wheel} is not the pinned file (SHA-256 differs); delete it"))
    return MovieLens(_contents(members[_CONTENTS].decode()), _ratings(members[_RATINGS].decode()))


def _wheel(cache: Path) -> Path:
    found = sorted(cache.glob(_WHEEL))
    return found[0] if found else _download(cache)


def _download(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    # Beside its destination, so that the final rename is atomic and an interrupted download leaves no half wheel.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [*_package_client(), "download", "--quiet", "--no-deps", "--dest", folder, _REQUIREMENT]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_DEADLINE_S)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise DataUnavailable(_advice(f"no answer in {_DOWNLOAD_DEADLINE_S} s")) from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or error.stdout.strip()).splitlines()
            raise DataUnavailable(_advice(said[-1] if said else f"exit status {error.returncode}")) from error
        wheel = next(Path(folder).glob(_WHEEL), None)
        if wheel is None:
            raise DataUnavailable(_advice("the index has no wheel of it"))
        return wheel.replace(cache / wheel.name)


def _package_client() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):  # an environment made by uv has no pip of its own; uv can borrow one
        return [uv, "tool", "run", "pip"]
    raise DataUnavailable(_advice("neither pip nor uv is installed"))


def _advice(problem: str) -> str:
    return (
        f"MovieLens-100K could not be read from the {_REQUIREMENT} wheel: {problem}\n"
        "`make quickstart` shows the same loop on a generated world and downloads nothing. To use a wheel that you "
        f"already have, copy it into {CACHE}/."
    )


def _contents(text: str) -> tuple[Movie, ...]:
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple(
        Movie(int(content_id), title, year if year.isdigit() else "", tuple(genres.split()))
        for content_id, title, year, genres in rows
    )


def _ratings(text: str) -> Ratings:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    timestamps_s = np.array([int(row[3]) for row in rows], dtype=np.int64)
    order = np.argsort(timestamps_s, kind="stable")
    return Ratings(
        user_ids=np.array([int(row[0]) for row in rows], dtype=np.int64)[order],
        content_ids=np.array([int(row[1]) for row in rows], dtype=np.int64)[order],
        ratings=np.array([float(row[2]) for row in rows], dtype=np.float32)[order],
        timestamps_s=timestamps_s[order],
    )
