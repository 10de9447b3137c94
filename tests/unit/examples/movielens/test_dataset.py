"""The data set: what is read from the wheel, and what a person is told when it cannot be had."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from examples.movielens import dataset


def test_a_broken_wheel_is_named_and_quickstart_offered(tmp_path: Path) -> None:
    (tmp_path / "recbole-1.2.1-py3-none-any.whl").write_bytes(b"half a download")

    with pytest.raises(dataset.DataUnavailable, match=r"(?s)recbole-1\.2\.1-py3-none-any\.whl.*make quickstart"):
        dataset.load(tmp_path)


def test_changed_data_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for name in ("ml-100k.inter", "ml-100k.item"):
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", "user_id\n1\n")

    with pytest.raises(dataset.DataUnavailable, match="SHA-256 differs"):
        dataset.load(tmp_path)


def test_a_failed_download_says_why_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = replace(dataset._WHEEL, requirement="-e nonsense")  # by the client, before it asks any index
    monkeypatch.setattr(dataset, "_WHEEL", refused)

    with pytest.raises(dataset.DataUnavailable, match=r"(?s)could not be read.*make quickstart"):
        dataset.load(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_ratings_are_in_time_order_and_contents_are_complete(movielens: dataset.MovieLens) -> None:
    assert len(movielens.ratings) == 100_000
    assert bool((movielens.ratings.timestamps_s[1:] >= movielens.ratings.timestamps_s[:-1]).all())
    assert len(movielens.contents) == 1_682
    assert movielens.contents[0] == dataset.Movie(1, "Toy Story", "1995", ("Animation", "Children's", "Comedy"))
    assert movielens.contents[0].description == "1995 Animation Children's Comedy"
