"""Rows on disk: what changed is written, what is read is the last that was said, and old manifests stay true."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.learner import array_files, row_files
from services.learner.row_files import BLOCK, EMPTY, RowFiles


def changed(places: list[int], value: float) -> dict[str, np.ndarray]:
    at = np.array(sorted(places), np.int64)
    return {"at": at, "value": np.full((len(at), 2), value), "flag": at % 2 == 0}


def held(root: Path, files: RowFiles) -> dict[int, float]:
    row_files.verify(root, files.pieces)
    found: dict[int, float] = {}
    for piece in row_files.read(root, files):
        assert (piece["flag"] == (piece["at"] % 2 == 0)).all()
        found |= dict(zip(piece["at"].tolist(), piece["value"][:, 1].tolist(), strict=True))
    return found


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sets(st.integers(0, 40), max_size=20), max_size=25))
def test_the_last_that_was_said_of_a_place_is_read(
    tmp_path_factory: pytest.TempPathFactory, saves: list[set[int]]
) -> None:
    root = tmp_path_factory.mktemp("rows")
    files, before = EMPTY, []
    expected: dict[int, float] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(row_files, "BLOCK", 8)
        for number, places in enumerate(saves):
            files = row_files.append(root, files, changed(list(places), number), f"s{number}")
            expected |= dict.fromkeys(places, float(number))
            before.append((files, dict(expected)))
        for then, was in before:  # nothing that an older manifest names was touched
            assert held(root, then) == was
    assert RowFiles.load(files.dump()) == files


def test_a_row_is_written_when_it_changed_and_a_few_times_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = array_files.write_arrays

    def counted(path: Path, arrays: dict[str, np.ndarray]) -> None:
        written.append(len(arrays["at"]))
        write(path, arrays)

    monkeypatch.setattr(row_files, "write_arrays", counted)
    saves, batch = 80, 2_000
    files = EMPTY
    for number in range(saves):
        places = list(range(number * batch, (number + 1) * batch))
        files = row_files.append(tmp_path, files, changed(places, 0.0), f"s{number}")

    rows = saves * batch
    assert sum(written) <= 4 * rows
    assert sum(piece.count for piece in files.journal) <= rows // 8
    assert len(held(tmp_path, files)) == rows


def test_amendments_everywhere_do_not_pile_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = row_files.append(tmp_path, EMPTY, changed(list(range(4 * BLOCK)), -1.0), "first")
    for number in range(40):
        places = rng.choice(4 * BLOCK, 1_000, replace=False).tolist()
        files = row_files.append(tmp_path, files, changed(places, number), f"s{number}")
    assert sum(piece.count for piece in files.pieces) <= 4 * BLOCK * 9 // 8 + BLOCK


def test_what_no_manifest_names_is_deleted(tmp_path: Path) -> None:
    one = row_files.append(tmp_path, EMPTY, changed([1, 2], 1.0), "one")
    row_files.append(tmp_path, one, changed([2], 2.0), "two")
    row_files.forget(tmp_path, {piece.name for piece in one.pieces}, epoch=1)
    assert held(tmp_path, one) == {1: 1.0, 2: 1.0}
    assert len(list((tmp_path / row_files.FOLDER).iterdir())) == 1


def test_a_damaged_file_is_found_and_never_written_on(tmp_path: Path) -> None:
    files = row_files.append(tmp_path, EMPTY, changed([1, 2], 1.0), "one")
    victim = tmp_path / row_files.FOLDER / files.journal[0].name
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    with pytest.raises(ValueError, match="damaged"):
        row_files.verify(tmp_path, files.pieces)
    with pytest.raises(ValueError, match="damaged"):  # it would be compacted
        row_files.append(tmp_path, files, changed(list(range(BLOCK)), 2.0), "two")
