from pathlib import Path

import pytest

from infra.kafka_server import CACHE_VARIABLE, KafkaServer, keep_archive
from infra.run_state import RunState


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def test_what_a_killed_broker_wrote_goes_with_its_folder_and_a_whole_archive_is_used(
    cache: Path, tmp_path: Path
) -> None:
    broker = KafkaServer(tmp_path / "broker", RunState(tmp_path))

    (writing,) = (option for option in map(str, broker.command()) if option.startswith("-XX:ArchiveClassesAtExit="))
    written = Path(writing.partition("=")[2])
    assert written.is_relative_to(broker.folder)

    written.parent.mkdir()
    written.write_bytes(b"classes")
    keep_archive(written)

    (kept,) = cache.iterdir()
    assert kept.read_bytes() == b"classes"
    assert f"-XX:SharedArchiveFile={kept}" in map(str, broker.command())
    assert not written.exists()
