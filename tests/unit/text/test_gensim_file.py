"""A gensim file comes in by its digests alone, and infers as it did in gensim."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models.doc2vec import Doc2Vec, TaggedDocument

from libs.errors import RefusedStart
from libs.text.doc2vec import Doc2VecModel
from libs.text.gensim_file import import_model, understood
from libs.text.tokens import tokens

TEXTS = [
    "space war robot alien",
    "alien robot space",
    "love wedding comedy",
    "comedy love family",
    "서울에서 사랑 comedy",
]


def saved(path: Path, words: Any = tokens, **settings: Any) -> Doc2Vec:
    """Train with gensim, and save with every array in a file of its own."""
    corpus = [TaggedDocument(words(text), [tag]) for tag, text in enumerate(TEXTS * 3)]
    model = Doc2Vec(corpus, **{"vector_size": 8, "min_count": 1, "epochs": 20, "workers": 1, "seed": 1} | settings)
    model.save(str(path), sep_limit=0)
    return model


def digests(path: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in path.parent.glob(f"{path.name}*")]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dm_mean": 0, "window": 2, "negative": 7},
        {"dm_mean": 1, "shrink_windows": False, "sample": 1e-2, "alpha": 0.05, "min_alpha": 0.01},
        {"dm": 0},
        {"dm": 0, "dbow_words": 1, "sample": 0},
    ],
)
def test_an_imported_model_infers_as_in_gensim(tmp_path: Path, settings: dict[str, Any]) -> None:
    original = saved(tmp_path / "old.model", **settings)
    imported = import_model(tmp_path / "old.model", digests(tmp_path / "old.model"))
    imported.save(tmp_path / "new")
    loaded = Doc2VecModel.load(tmp_path / "new")
    assert loaded.version == imported.version
    in_gensim = Doc2VecModel.load(tmp_path / "new")
    in_gensim._gensim = original  # the same draws, the model as gensim has it
    for text in ("space robot", "comedy love family wedding space", "서울 사랑"):
        assert loaded.infer(text).any()
        assert np.array_equal(loaded.infer(text), in_gensim.infer(text))


def test_the_folder_holds_arrays_and_json_and_no_pickle(tmp_path: Path) -> None:
    saved(tmp_path / "old.model")
    import_model(tmp_path / "old.model", digests(tmp_path / "old.model")).save(tmp_path / "new")
    files = sorted((tmp_path / "new").iterdir())
    assert [file.suffix for file in files] == [".json", ".json", ".safetensors"]
    for file in files:
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, TypeError)):
            pickle.loads(file.read_bytes())


class Bomb:
    """What a hostile file would be."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_nothing_is_unpickled_before_its_digest_is_known(tmp_path: Path) -> None:
    file, exploded = tmp_path / "bomb.model", tmp_path / "exploded"
    file.write_bytes(pickle.dumps(Bomb(exploded)))
    with pytest.raises(RefusedStart, match=r"bomb\.model is not among those given"):
        import_model(file, [hashlib.sha256(b"another").hexdigest()])
    assert not exploded.exists()
    with pytest.raises(RefusedStart, match="cannot be read"):
        import_model(file, digests(file))
    assert exploded.exists()  # the bomb is real


def test_every_file_beside_it_needs_its_digest(tmp_path: Path) -> None:
    saved(tmp_path / "old.model")
    given = digests(tmp_path / "old.model")
    weights = tmp_path / "old.model.syn1neg.npy"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(RefusedStart, match=r"old\.model\.syn1neg\.npy is not among"):
        import_model(tmp_path / "old.model", given)
    weights.unlink()
    with pytest.raises(RefusedStart, match="missing beside it"):
        import_model(tmp_path / "old.model", given)
    with pytest.raises(RefusedStart, match=r"cannot be read \(FileNotFoundError"):
        import_model(tmp_path / "old.model", digests(tmp_path / "old.model"))


@pytest.mark.parametrize("given", [[], ["md5"], ["0" * 63]])
def test_what_is_no_digest_is_refused(tmp_path: Path, given: list[str]) -> None:
    saved(tmp_path / "old.model")
    with pytest.raises(RefusedStart, match="--sha256"):
        import_model(tmp_path / "old.model", given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hs": 1, "negative": 0}, "hierarchical softmax"), ({"dm_concat": 1}, "dm_concat")],
)
def test_a_model_moard_cannot_use_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    saved(tmp_path / "old.model", **settings)
    with pytest.raises(RefusedStart, match=message):
        import_model(tmp_path / "old.model", digests(tmp_path / "old.model"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedStart, match="cannot be copied"):
        import_model(tmp_path / "no.model", ["0" * 64])


def test_words_that_no_text_can_have_are_told(tmp_path: Path) -> None:
    saved(tmp_path / "plain.model")
    saved(tmp_path / "tagged.model", words=lambda text: [f"{word}/Noun" for word in text.split()])
    models = [import_model(tmp_path / name, digests(tmp_path / name)) for name in ("plain.model", "tagged.model")]
    assert [understood(model) for model in models] == [1.0, 0.0]
