import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from libs.errors import RefusedStart
from libs.text.model_folder import Inference, ModelParts, load_parts, save_parts


def _parts(scale: float = 1.0) -> ModelParts:
    return ModelParts(
        inference=Inference(epochs=5, negative=5, sample=0.0),
        words=("a", "서울"),
        output=np.array([[0.5, -1.0, 2.0], [0.0, 1.0, 3.0]], np.float32) * np.float32(scale),
        draw=np.array([2**30, 2**31 - 1], np.uint32),
        keep=np.array([2**32 - 1, 2**32 - 1], np.uint32),
    )


def _with_context() -> ModelParts:
    inference = replace(_parts().inference, window=5, average=False)
    return replace(_parts(), inference=inference, context=np.ones((2, 3), np.float32))


def test_vectors_of_words_are_part_of_the_model(tmp_path: Path) -> None:
    save_parts(_with_context(), tmp_path)
    loaded = load_parts(tmp_path)
    assert loaded.inference == _with_context().inference
    assert loaded.context is not None
    assert np.array_equal(loaded.context, np.ones((2, 3)))
    other = replace(_with_context(), context=2 * loaded.context)
    assert len({_parts().version, _with_context().version, other.version}) == 3


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_parts(_parts(), tmp_path / "new" / "folder")
    loaded = load_parts(tmp_path / "new" / "folder")
    assert loaded.version == _parts().version
    assert (loaded.words, loaded.inference) == (_parts().words, _parts().inference)
    assert np.array_equal(loaded.output, _parts().output)


def test_a_new_model_replaces_the_old_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    save_parts(_parts(), tmp_path)
    save_parts(_parts(2.0), tmp_path)
    assert load_parts(tmp_path).version == _parts(2.0).version
    assert len(list(tmp_path.iterdir())) == 3


def test_until_the_manifest_is_replaced_the_old_model_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_parts(_parts(), tmp_path)
    replace_file = Path.replace

    def dies(self: Path, target: Path) -> Path:
        if target.name == "manifest.json":
            raise OSError("no space left on device")
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(OSError, match="no space"):
        save_parts(_parts(2.0), tmp_path)
    assert load_parts(tmp_path).version == _parts().version


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: next(folder.glob("weights-*")).unlink(), r"weights-\w+.safetensors is missing"),
        (lambda folder: _flip(next(folder.glob("weights-*"))), "damaged"),
        (lambda folder: next(folder.glob("weights-*")).write_bytes(b"\x80\x04pickle"), "cannot be read"),
        (lambda folder: next(folder.glob("vocabulary-*")).write_text('["a", "b"]'), "damaged"),
        (lambda folder: next(folder.glob("vocabulary-*")).write_bytes(b"\xff"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "cannot be read"),
        (lambda folder: _edit(folder / "manifest.json", format=1), "its format is 1"),
        (lambda folder: _edit(folder / "manifest.json", version="../../secret"), "version is not one"),
        (lambda folder: _edit(folder / "manifest.json", inference={"epochs": 5}), "cannot be read"),
        (
            lambda folder: _edit(folder / "manifest.json", inference={"epochs": 6, "negative": 5, "sample": 0.0}),
            "damaged",
        ),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    save_parts(_parts(), tmp_path)
    damage(tmp_path)
    with pytest.raises(RefusedStart, match=message) as caught:
        load_parts(tmp_path)
    assert "MOARD_DOC2VEC_PATH" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        replace(_parts(), draw=np.array([2**30, 2**31], np.uint32)),
        replace(_parts(), draw=np.array([2**31 - 1], np.uint32)),
        replace(_parts(), keep=np.array([1], np.uint32)),
        replace(_parts(), words=("a", "a")),
        replace(_parts(), words=("a", "b", "c")),
        replace(_parts(), output=np.array([[np.nan], [0.0]], np.float32)),
        replace(_parts(), output=np.zeros((2, 3))),
        replace(_parts(), context=np.zeros((2, 3), np.float32)),
        replace(_parts(), inference=replace(_parts().inference, window=5)),
        replace(_with_context(), context=np.zeros((1, 3), np.float32)),
        replace(_with_context(), context=np.full((2, 3), np.inf, np.float32)),
        replace(_with_context(), inference=replace(_parts().inference, window=-1)),
    ],
)
def test_arrays_that_do_not_belong_together_never_reach_gensim(tmp_path: Path, parts: ModelParts) -> None:
    save_parts(parts, tmp_path)
    with pytest.raises(RefusedStart, match="do not belong together"):
        load_parts(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RefusedStart):
        load_parts(tmp_path / "file")
