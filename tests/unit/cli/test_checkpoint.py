"""``moard checkpoint`` on a folder as a learner leaves it."""

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from libs.errors import RefusedStart
from services.cli.checkpoint import DAMAGED, checkpoint
from services.learner import checkpoint_files
from services.learner.epochs import highest_epoch
from tests.unit.learner.test_checkpoint_files import save


def moard(*arguments: str, folder: Path) -> Result:
    return CliRunner().invoke(checkpoint, [*arguments, "--folder", str(folder)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path, 2, ids=("b",), before=save(tmp_path, 1, ids=("a",)))
    return tmp_path


def damage(folder: Path, name: str) -> None:
    (folder / name / "values.json").write_bytes(b"{}")


def test_the_list_is_newest_first_and_says_what_is_damaged(folder: Path) -> None:
    (folder / "checkpoint-00000001-00000001" / "manifest.json").write_bytes(b"{}")

    newest, oldest = orjson.loads(moard("list", "--json", folder=folder).stdout)

    assert newest["name"] == "checkpoint-00000001-00000002"
    assert newest["created"] == "1970-01-01T00:00:02+00:00"
    assert (newest["step"], newest["events"], newest["offsets"]) == (2, 2, {"moard.events:0": 2})
    assert newest["bytes"] > 0
    assert "format 2" in oldest["damaged"]
    table = moard("list", folder=folder).stdout
    assert "checkpoint-00000001-00000002" in table
    assert "damaged" in table


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path) -> None:
    assert f"no checkpoint in {tmp_path}" in moard("list", folder=tmp_path).stdout.replace("\n", "")
    assert moard("list", "--json", folder=tmp_path).stdout == "[]\n"


def test_verify_reads_every_file_and_fails_for_a_damaged_one(folder: Path) -> None:
    assert moard("verify", folder=folder).exit_code == 0

    damage(folder, "checkpoint-00000001-00000001")

    assert moard("verify", "checkpoint-00000001-00000002", folder=folder).exit_code == 0
    done = moard("verify", folder=folder)
    assert done.exit_code == DAMAGED
    assert "checkpoint-00000001-00000002: whole" in done.stdout
    assert "checkpoint-00000001-00000001/values.json is damaged" in done.stderr


def test_restore_makes_an_older_one_the_newest_and_fences_a_running_learner(folder: Path) -> None:
    done = moard("restore", "checkpoint-00000001-00000001", folder=folder)

    assert done.exit_code == 0
    newest = checkpoint_files.newest_valid(folder)
    assert newest is not None
    assert newest.name == "checkpoint-00000002-00000001"
    assert newest.name in done.stdout
    assert (newest.step, highest_epoch(folder)) == (1, 2)
    assert checkpoint_files.read(folder, newest)[1] == {"n": 1}


@pytest.mark.parametrize("name", ["checkpoint-00000001-00000009", "../elsewhere", "checkpoint-00000001-00000001"])
def test_what_is_not_there_or_damaged_is_not_restored(folder: Path, name: str) -> None:
    damage(folder, "checkpoint-00000001-00000001")
    refused = moard("restore", name, folder=folder).exception
    assert isinstance(refused, RefusedStart)
    assert "moard checkpoint" in str(refused)
    assert checkpoint_files.names(folder)[0] == "checkpoint-00000001-00000002"
