"""``moard doc2vec`` as a person types it."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from gensim.models.doc2vec import Doc2Vec, TaggedDocument

from infra.migrations import upgrade
from libs.adapters.content_store import SqlContentStore
from libs.adapters.ports import StoredContent
from libs.text.tokens import tokens
from libs.text.vectors import load_text_vectors
from services.cli.__main__ import main
from tests.contract.catalogue_stand import create_legacy_tables, execute

TEXTS = [
    (1, "Space war", "robot alien"),
    (2, "Alien robot", "space"),
    (3, "Love", "wedding <b>comedy</b>"),
    (4, "서울에서 사랑", None),
    (5, "서울은 comedy", "love"),
]
SMALL = ("--vector-size", "8", "--epochs", "3")


class Said(NamedTuple):
    status: int
    out: str
    err: str


Moard = Callable[..., Said]


@pytest.fixture
def moard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Moard:
    """Run the command in an empty folder, away from any ``.env``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOARD_VECTOR_SIZE", "8")

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["moard", "doc2vec", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, " ".join(said.err.split()))

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    lines = [json.dumps({"id": i, "title": title, "description": text, "url": "ignored"}) for i, title, text in TEXTS]
    (tmp_path / "texts.jsonl").write_text("\n".join([*lines, "", ""]), "utf-8")
    return tmp_path / "texts.jsonl"


def trained_into(said: Said) -> Path:
    assert said.status == 0, said.err
    name, _, folder = said.out.strip().partition("=")
    assert name == "MOARD_DOC2VEC_PATH"  # and nothing else was printed
    return Path(folder)


def test_training_prints_the_setting_that_serves_the_model(moard: Moard, texts: Path, tmp_path: Path) -> None:
    said = moard("train", "--file", str(texts), *SMALL)
    folder = trained_into(said)
    vectors = load_text_vectors(str(folder), 8)
    assert vectors is not None
    assert folder == tmp_path / ".moard/doc2vec" / vectors.version
    assert asyncio.run(vectors.one("love", "comedy")).any()
    vectors.close()
    assert "training" in said.err
    assert "3/3" in said.err
    assert "restart ingest, then serving" in said.err


def test_models_lie_side_by_side_by_their_version(moard: Moard, texts: Path, tmp_path: Path) -> None:
    folders = {trained_into(moard("train", "--file", str(texts), *SMALL, "--seed", seed)) for seed in "112"}
    assert len(folders) == 2
    assert set((tmp_path / ".moard/doc2vec").iterdir()) == folders


def test_the_catalogue_is_the_backends_rows_and_ones_own(
    moard: Moard, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalogue.db"
    monkeypatch.setenv("DATABASE_URL", url)
    upgrade(url)

    async def fill() -> None:
        await create_legacy_tables(url)
        insert = "INSERT INTO contents (id, title, description) VALUES (:id, :title, :description)"
        rows = [{"id": i, "title": title, "description": text} for i, title, text in TEXTS[1:]]
        await execute(url, *((insert, row) for row in rows))
        store = SqlContentStore(url, 8)
        await store.put(StoredContent(1, "Space war", "robot alien"))
        await store.close()

    asyncio.run(fill())
    from_file = trained_into(moard("train", "--file", str(texts), *SMALL))
    assert trained_into(moard("train", *SMALL)) == from_file


def test_a_catalogue_that_is_away_or_empty_is_a_message(
    moard: Moard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql+asyncmy://moard:moard@127.0.0.1:1/moard")
    said = moard("train", *SMALL)
    assert (said.status, "the database did not answer" in said.err) == (1, True)
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/catalogue.db")
    said = moard("train", *SMALL)
    assert (said.status, "moard migrate" in said.err) == (2, True)
    upgrade(f"sqlite+aiosqlite:///{tmp_path}/catalogue.db")
    said = moard("train", *SMALL)
    assert (said.status, "there is no text to train on" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: Invalid JSON"),
        ("[]", "line 2: Input should be an object"),
        ('{"id": 7}', "line 2: title: Field required"),
        ('{"id": 7, "title": null}', "line 2: title: Input should be a valid string"),
        ('{"id": "7", "title": "a"}', "line 2: id: Input should be a valid integer"),
        ('{"id": -1, "title": "a"}', "line 2: id: Input should be greater than or equal to 0"),
        ('{"id": 1, "title": "again"}', "line 2: id: 1 came before"),
        ('{"id": 7, "title": "' + "x" * 1_000_000 + '"}', "line 2: longer than 1,000,000 bytes"),
    ],
)
def test_a_line_that_is_no_text_is_named(moard: Moard, tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": 1, "title": "a"}\n' + line)
    said = moard("train", "--file", "bad.jsonl")
    assert said.status == 2
    assert problem in said.err
    assert "A line is" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "arguments",
    [("--vector-size", "1"), ("--vector-size", "5000"), ("--epochs", "0"), ("--workers", "0"), ("--sample", "2")],
)
def test_sizes_are_checked_before_anything_is_read(moard: Moard, arguments: tuple[str, str]) -> None:
    said = moard("train", "--file", "no-such-file", *arguments)
    assert said.status == 2
    assert arguments[0] in said.err
    assert "or equal to" in said.err


def test_a_file_that_is_not_there_is_a_message(moard: Moard) -> None:
    said = moard("train", "--file", "no-such-file")
    assert (said.status, "--file no-such-file cannot be read" in said.err) == (2, True)


def test_another_vector_size_is_a_setting_of_every_service(moard: Moard, texts: Path) -> None:
    said = moard("train", "--file", str(texts), "--vector-size", "4", "--epochs", "1")
    assert said.out.splitlines()[1] == "MOARD_VECTOR_SIZE=4"
    assert "the learner too" in said.err


def gensim_model(path: Path) -> list[str]:
    corpus = [TaggedDocument(tokens(f"{title} {text}"), [tag]) for tag, (_, title, text) in enumerate(TEXTS)]
    Doc2Vec(corpus, vector_size=8, min_count=1, workers=1).save(str(path), sep_limit=0)
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in path.parent.glob(f"{path.name}*")]


def test_a_gensim_file_is_imported_by_its_digests_alone(moard: Moard, tmp_path: Path) -> None:
    digests = gensim_model(tmp_path / "legacy.model")
    refused = moard("import", "legacy.model", "--sha256", digests[0])
    assert refused.status == 2
    assert "sha256sum legacy.model" in refused.err
    assert not (tmp_path / ".moard").exists()
    said = moard("import", "legacy.model", *(word for digest in digests for word in ("--sha256", digest)))
    vectors = load_text_vectors(str(trained_into(said)), 8)
    assert vectors is not None
    vectors.close()
    assert "makes 100% of its" in said.err


def test_an_import_without_any_digest_is_refused(moard: Moard, tmp_path: Path) -> None:
    gensim_model(tmp_path / "legacy.model")
    said = moard("import", "legacy.model")
    assert (said.status, "--sha256" in said.err) == (2, True)
