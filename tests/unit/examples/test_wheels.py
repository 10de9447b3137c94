"""Data sets inside wheels: the archive is read, and what is not as pinned is refused."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from examples.wheels import DataUnavailable, DataWheel

WHEEL = DataWheel("Some data", "some==1.0", "some-1.0-*.whl", {"some/a.csv": hashlib.sha256(b"x").hexdigest()}, "Do. ")


def put(cache: Path, **members: str) -> None:
    with zipfile.ZipFile(cache / "some-1.0-py3-none-any.whl", "w") as archive:
        for name, text in members.items():
            archive.writestr(f"some/{name}.csv", text)


def test_the_pinned_members_are_read_from_the_cache(tmp_path: Path) -> None:
    put(tmp_path, a="x", b="not asked for")
    assert WHEEL.read(tmp_path) == {"some/a.csv": b"x"}


def test_a_missing_member_and_a_changed_one_are_refused_with_the_remedy(tmp_path: Path) -> None:
    put(tmp_path, b="x")
    with pytest.raises(DataUnavailable, match="is not the wheel it should be"):
        WHEEL.read(tmp_path)
    put(tmp_path, a="y")
    with pytest.raises(DataUnavailable, match=r"(?s)Some data could not.*SHA-256 differs.*delete it\nDo\. To use"):
        WHEEL.read(tmp_path)


def test_a_failed_download_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="could not be read"):
        replace(WHEEL, requirement="-e nonsense").read(tmp_path)
    assert list(tmp_path.iterdir()) == []
