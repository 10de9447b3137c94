"""The commands of ``docs/how-to/vectors.md``, run as they are written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gensim.models.doc2vec import Doc2Vec, TaggedDocument

from infra.migrations import upgrade
from libs.text.vectors import load_text_vectors
from services.ingest.settings import Settings as Ingest
from services.serving.settings import Settings as Serving

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/vectors.md").read_text("utf-8")


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """A folder with what the page speaks of, and ``moard`` on the path."""
    texts = [{"id": number, "title": "Seoul news", "description": f"서울에서 {number}"} for number in range(20)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
    corpus = [TaggedDocument(["seoul", "news", str(number)], [number]) for number in range(20)]
    Doc2Vec(corpus, vector_size=8, min_count=1, workers=1).save(str(tmp_path / "legacy.model"), sep_limit=0)
    (tmp_path / "bin").mkdir()
    moard = tmp_path / "bin/moard"
    moard.write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
    moard.chmod(0o755)
    url = f"sqlite+aiosqlite:///{tmp_path}/moard.db"
    upgrade(url)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "DATABASE_URL": url, "MOARD_VECTOR_SIZE": "8"}


def test_the_commands_work_one_after_the_other(shell: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path, env=shell, capture_output=True, text=True, check=False
        )
        if block == "moard doc2vec train\n":  # the catalogue of this test is empty
            assert "there is no text to train on" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        if "doc2vec" in block:
            name, _, folder = done.stdout.strip().partition("=")
            assert name == "MOARD_DOC2VEC_PATH"
            vectors = load_text_vectors(folder, 8)
            assert vectors is not None
            vectors.close()


def test_the_settings_it_names_exist() -> None:
    named = set(re.findall(r"MOARD_[A-Z0-9_]+", PAGE))
    known = {f"MOARD_{name.upper()}" for settings in (Ingest, Serving) for name in settings.model_fields}
    assert named
    assert named - known == set()


def test_the_options_it_names_have_the_defaults_it_says(shell: dict[str, str]) -> None:
    command = [sys.executable, "-m", "services.cli", "doc2vec", "train", "--help"]
    wide = shell | {"COLUMNS": "300"}
    said = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=True).stdout
    for option, default in re.findall(r"^\| `(--[a-z-]+)` \| `?([^`|]+?)`? \|", PAGE, re.MULTILINE):
        line = next(line for line in said.splitlines() if option in line)
        assert default in line
