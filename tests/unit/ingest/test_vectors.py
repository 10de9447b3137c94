"""Loading the text model."""

from pathlib import Path

import pytest

from libs.adapters.ports import StoredContent
from libs.errors import RefusedStart
from libs.text.doc2vec import train
from libs.text.vectors import load_text_vectors
from services.ingest.vectors import with_vector


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "model"
    train([(1, "a con in the city"), (2, "a con at sea"), (3, "the sea")], vector_size=3, epochs=2).save(path)
    return path


def test_no_path_no_model() -> None:
    assert load_text_vectors("", 3) is None


async def test_a_model_completes_contents(folder: Path) -> None:
    vectors = load_text_vectors(str(folder), 3)
    assert vectors is not None
    first, second = [await with_vector(StoredContent(1, title="a con"), vectors) for _ in range(2)]
    assert first == second
    assert first.embedding is not None
    assert len(first.embedding) == 3
    assert first.vector_version == vectors.version != ""
    vectors.close()


@pytest.mark.parametrize("damage", ["missing", "damaged", "size"])
def test_a_model_that_cannot_be_used_is_refused_by_the_settings_name(folder: Path, tmp_path: Path, damage: str) -> None:
    path, size = folder, 3
    if damage == "missing":
        path = tmp_path / "nothing"
    elif damage == "damaged":
        path = tmp_path / "damaged"
        path.mkdir()
        for file in folder.iterdir():
            (path / file.name).write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        size = 300
    with pytest.raises(RefusedStart, match="MOARD_DOC2VEC_PATH"):
        load_text_vectors(str(path), size)
