"""A checkpoint is complete or absent, whatever fails while it is written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.adapters.memory import MemorySnapshotStore
from libs.errors import Fenced, RefusedStart
from services.learner import checkpoint_files, ledger_segments, row_files
from services.learner.checkpoint_files import Manifest
from services.learner.epochs import claim_epoch, highest_epoch, require_epoch
from services.learner.ledger import main, read_ledger


def manifest(number: int, epoch: int = 1, **fields: Any) -> Manifest:
    values: dict[str, Any] = {
        "created_ms": 1_000 * number,
        "cluster_id": "cluster",
        "config": {"vector_size": 4},
        "reward_version": "r",
        "offsets": {"moard.events:0": number},
        "last_version": 0,
        "step": number,
        "files": {},
        "ledger": (),
    }
    return Manifest(epoch=epoch, number=number, **(values | fields))


def save(root: Path, number: int, ids: tuple[str, ...] = (), before: Manifest | None = None, **fields: Any) -> Manifest:
    new = manifest(number, **fields)
    ledger = ledger_segments.append(root, before.ledger if before else (), ids, f"s-{number}", new.created_ms, 0)
    changed = {"at": np.array([number]), "value": np.array([10 * number])}
    rows = row_files.append(root, before.rows if before else row_files.EMPTY, changed, f"s-{number}")
    new = manifest(number, ledger=ledger, rows=rows, **fields)
    return checkpoint_files.write(root, new, {"a": np.arange(number)}, {"n": number}, before_rename=lambda: None)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = save(tmp_path, 3, ids=("a", "b"))

    found = checkpoint_files.newest_valid(tmp_path)

    assert found == written
    arrays, values = checkpoint_files.read(tmp_path, written)
    assert arrays["a"].tolist() == [0, 1, 2]
    assert values == {"n": 3}
    assert read_ledger(tmp_path) == ["a", "b"]


def test_the_highest_epoch_counts_before_the_highest_number(tmp_path: Path) -> None:
    save(tmp_path, 9, epoch=1)
    save(tmp_path, 2, epoch=2)

    found = checkpoint_files.newest_valid(tmp_path)

    assert found is not None
    assert found.name == "checkpoint-00000002-00000002"


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_failure_at_any_step_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    old = save(tmp_path, 1, ids=("a",))
    (tmp_path / "dry").mkdir()
    steps = _count_calls(monkeypatch, call, lambda: save(tmp_path / "dry", 2, ids=("b",)))
    assert steps >= 1

    for step in range(steps):
        with monkeypatch.context() as patched:
            _fail_at(patched, call, step)
            with pytest.raises(OSError, match="planned"):
                save(tmp_path, 2, ids=("b",), before=old)
        found = checkpoint_files.newest_valid(tmp_path)
        # The last fsync comes after the rename: the new one may be there already, and then it is whole.
        assert found is not None
        assert found.name == old.name or (call == "fsync" and found.step == 2)
        shutil.rmtree(tmp_path / "checkpoint-00000001-00000002", ignore_errors=True)
        assert not list(tmp_path.glob("*.tmp"))
        assert read_ledger(tmp_path) == ["a"]

    assert read_ledger(tmp_path) == ["a"]
    save(tmp_path, 2, ids=("b",), before=old)
    assert read_ledger(tmp_path) == ["a", "b"]


def _count_calls(monkeypatch: pytest.MonkeyPatch, call: str, work: Callable[[], object]) -> int:
    calls = [0]
    original = getattr(os, call)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, counted)
        work()
    return calls[0]


def _fail_at(patched: pytest.MonkeyPatch, call: str, step: int) -> None:
    left = [step]
    original = getattr(os, call)

    def failing(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise OSError("planned")
        return original(*args, **kwargs)

    patched.setattr(os, call, failing)


@pytest.mark.parametrize("damage", ["arrays.npz", "values.json", "manifest.json", "ledger", "rows", "missing"])
def test_a_damaged_checkpoint_gives_way_to_its_predecessor(tmp_path: Path, damage: str) -> None:
    old = save(tmp_path, 1, ids=("a",) * 9)
    new = save(tmp_path, 2, ids=("b",), before=old)
    shared = {"ledger": f"ledger/{new.ledger[-1].name}", "rows": f"rows/{new.rows.journal[-1].name}"}
    victim = tmp_path / shared.get(damage, f"{new.name}/{damage}")
    if damage == "missing":
        (tmp_path / new.name / "values.json").unlink()
    else:
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)

    assert checkpoint_files.newest_valid(tmp_path) == old


def test_when_all_are_damaged_a_person_decides(tmp_path: Path) -> None:
    written = save(tmp_path, 1)
    (tmp_path / written.name / "values.json").write_bytes(b"{}")

    with pytest.raises(RefusedStart, match="MOARD_LEARNER_ABANDON_CHECKPOINT=checkpoint-00000001-00000001"):
        checkpoint_files.newest_valid(tmp_path)


def test_a_folder_without_checkpoints_is_a_fresh_start(tmp_path: Path) -> None:
    assert checkpoint_files.newest_valid(tmp_path / "nothing") is None
    assert read_ledger(tmp_path / "nothing") == []


def test_a_fenced_learner_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fence() -> None:
        (tmp_path / "epoch-00000002").touch()
        require_epoch(tmp_path, 1)

    with pytest.raises(Fenced, match="epoch 2 owns"):
        checkpoint_files.write(tmp_path, manifest(2), {}, {}, before_rename=fence)
    assert checkpoint_files.names(tmp_path) == ["checkpoint-00000001-00000001"]
    assert not list(tmp_path.glob("*.tmp"))


def test_the_newest_stay_with_the_ledger_they_name(tmp_path: Path) -> None:
    last: Manifest | None = None
    for number in range(1, 6):
        last = save(tmp_path, number, ids=(f"id{number}",), before=last)
    (tmp_path / "checkpoint-00000001-00000009.tmp").mkdir()

    checkpoint_files.tidy(tmp_path, keep=2, epoch=9)

    assert [name[-1] for name in checkpoint_files.names(tmp_path)] == ["5", "4"]
    assert not list(tmp_path.glob("*.tmp"))
    assert read_ledger(tmp_path) == [f"id{number}" for number in range(1, 6)]
    shutil.rmtree(tmp_path / checkpoint_files.names(tmp_path)[0])
    assert read_ledger(tmp_path) == [f"id{number}" for number in range(1, 5)]


def test_many_small_segments_become_few(tmp_path: Path) -> None:
    segments: tuple[ledger_segments.Segment, ...] = ()
    written = 0
    for number in range(300):
        segments = ledger_segments.append(tmp_path, segments, [f"id{number}"], f"s{number}", 0, 0)
        written += segments[-1].count

    assert len(segments) < 12
    assert written < 300 * 12
    ids = [event_id for segment in segments for event_id in ledger_segments.read(tmp_path, segment)]
    assert ids == [f"id{number}" for number in range(300)]


def test_the_ledger_forgets_what_the_topic_has_forgotten(tmp_path: Path) -> None:
    first = ledger_segments.append(tmp_path, (), ["old"] * 9, "s1", 1_000, keep_ms=500)
    second = ledger_segments.append(tmp_path, first, ["new"], "s2", 1_400, keep_ms=500)
    third = ledger_segments.append(tmp_path, second, [], "s3", 1_600, keep_ms=500)

    assert [segment.name for segment in second] == ["s1.ids", "s2.ids"]
    assert [segment.name for segment in third] == ["s2.ids"]


def test_the_ledger_is_printed_as_json_lines(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    save(tmp_path, 1, ids=('with"quote', "plain"))

    assert main([str(tmp_path)]) == 0
    assert capfdbinary.readouterr().out == b'"with\\"quote"\n"plain"\n'
    assert main([]) == 2


async def test_an_epoch_is_above_those_of_folder_and_store(tmp_path: Path) -> None:
    store = MemorySnapshotStore()
    save(tmp_path, 1, epoch=4)
    assert await claim_epoch(tmp_path, store) == 5
    assert await claim_epoch(tmp_path, store) == 6
    await store.claim_epoch(20)
    assert await claim_epoch(tmp_path, store) == 21
    assert highest_epoch(tmp_path) == 21
    assert await claim_epoch(tmp_path, MemorySnapshotStore()) == 22  # an emptied store is told by the folder
    with pytest.raises(Fenced):
        require_epoch(tmp_path, 21)


def test_objects_that_would_need_pickle_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="without pickle"):
        checkpoint_files.write(tmp_path, manifest(1), {"a": np.array([{}], object)}, {}, before_rename=lambda: None)


def test_a_learner_that_was_paused_deletes_nothing_that_a_newer_one_is_writing(tmp_path: Path) -> None:
    save(tmp_path, 1, ids=("a",))
    for folder, name in (("ledger", "00000002-00000002.ids"), ("rows", "00000002-00000002-rows-journal.npz")):
        (tmp_path / folder / name).write_bytes(b"named by a manifest in a moment")
    (tmp_path / "checkpoint-00000002-00000002.tmp").mkdir()

    checkpoint_files.tidy(tmp_path, keep=2, epoch=1)
    assert (tmp_path / "ledger" / "00000002-00000002.ids").exists()
    assert (tmp_path / "rows" / "00000002-00000002-rows-journal.npz").exists()
    assert (tmp_path / "checkpoint-00000002-00000002.tmp").exists()

    checkpoint_files.tidy(tmp_path, keep=2, epoch=2)
    assert not (tmp_path / "ledger" / "00000002-00000002.ids").exists()
    assert not (tmp_path / "rows" / "00000002-00000002-rows-journal.npz").exists()
    assert not (tmp_path / "checkpoint-00000002-00000002.tmp").exists()
    assert checkpoint_files.newest_valid(tmp_path) is not None
