import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gensim
import numpy as np
import pytest
from gensim.models.doc2vec import Doc2Vec

from libs.text import doc2vec
from libs.text.doc2vec import Doc2VecModel, text_of, train

ROOT = Path(__file__).parents[3]
FILMS = [
    (1, "space war robot alien"),
    (2, "alien robot space"),
    (3, "love wedding comedy"),
    (4, "comedy love family"),
    (5, "서울에서 사랑 comedy"),
    (6, "서울은 사랑 family"),
]


@pytest.fixture(scope="module")
def films() -> Doc2VecModel:
    return train(FILMS, vector_size=16, epochs=30)


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _found(queries: np.ndarray, targets: np.ndarray) -> int:
    return int((np.argmax(_unit(queries) @ _unit(targets).T, axis=1) == np.arange(len(targets))).sum())


def test_lee_corpus_texts_find_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    class Remembered(Doc2Vec):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            trained.append(self)

    monkeypatch.setattr(doc2vec, "Doc2Vec", Remembered)
    corpus = Path(gensim.__file__).parent / "test" / "test_data" / "lee_background.cor"
    texts = corpus.read_text("utf-8").splitlines()
    model = train(enumerate(texts), vector_size=100)
    whole = model.infer_many([(text, None) for text in texts])
    # Seven of the 300 texts are copies of others, so 293 can be told apart.
    assert _found(whole, trained[0].dv.vectors) >= 290
    half = model.infer_many([(" ".join(text.split()[::2]), None) for text in texts])
    assert _found(half, whole) >= 280


def test_the_same_text_has_the_same_vector_in_every_process(films: Doc2VecModel, tmp_path: Path) -> None:
    films.save(tmp_path / "model")
    program = (
        "import sys; from libs.text.doc2vec import Doc2VecModel, train\n"
        f"texts = {FILMS!r}\n"
        "here = Doc2VecModel.load(sys.argv[1]).infer('Space <b>love</b>', '서울을 떠나')\n"
        "print(here.tobytes().hex(), train(texts, vector_size=16, epochs=30).version)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "model")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    mine = films.infer("Space <b>love</b>", "서울을 떠나").tobytes().hex()
    assert outputs == {f"{mine} {films.version}\n"}


def test_threads_do_not_disturb_each_other(films: Doc2VecModel) -> None:
    texts = [text for _, text in FILMS] * 50
    alone = [films.infer(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, alone, pool.map(films.infer, texts)))


def test_like_texts_have_like_vectors(films: Doc2VecModel) -> None:
    war, robots, wedding = _unit(films.infer_many([("space war", ""), ("robot alien", ""), ("wedding comedy", "")]))
    assert war @ robots > war @ wedding


def test_korean_is_understood_through_its_particles(films: Doc2VecModel) -> None:
    assert films.infer("서울").any()
    assert films.infer("서울로 가자").any()


@pytest.mark.parametrize("text", ["", "   ", "🙂", "<br>", "unknownword"])
def test_a_text_without_a_known_word_is_the_zero_vector(films: Doc2VecModel, text: str) -> None:
    vector = films.infer(text, None)
    assert vector.shape == (16,)
    assert vector.dtype == np.float32
    assert not vector.any()


def test_only_known_words_count(films: Doc2VecModel) -> None:
    assert np.array_equal(films.infer("space unheard love"), films.infer("SPACE, <i>love</i>", ""))
    assert np.array_equal(films.infer("space", "love"), films.infer(text_of("space", "love")))


def test_infer_many_keeps_the_order(films: Doc2VecModel) -> None:
    many = films.infer_many([("space", None), ("love", "comedy")])
    assert np.array_equal(many, np.stack([films.infer("space"), films.infer("love", "comedy")]))
    assert films.infer_many([]).shape == (0, 16)
    assert films.vector_size == 16


def test_training_depends_on_texts_and_seed_and_not_on_their_order(films: Doc2VecModel) -> None:
    assert train(reversed(FILMS), vector_size=16, epochs=30).version == films.version
    assert train(FILMS, vector_size=16, epochs=30, seed=2).version != films.version


def test_progress_is_told_after_each_pass() -> None:
    heard: list[tuple[int, int]] = []
    train(FILMS, vector_size=4, epochs=3, progress=lambda done, of: heard.append((done, of)))
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_a_catalogue_without_words_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match="no text"):
        train([])
    with pytest.raises(ValueError, match="no text"):
        train([(1, "🙂"), (2, "")])
    with pytest.raises(ValueError, match="min_count"):
        train([(1, "one"), (2, "two")])
