from pathlib import Path

import pytest

from libs.adapters.settings import StackSettings, load_settings
from libs.errors import RefusedStart


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env


def test_addresses_are_read_without_a_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "k:1")
    monkeypatch.setenv("REDIS_URL", "redis://r")
    monkeypatch.setenv("DATABASE_URL", "sqlite+aiosqlite:///d")
    monkeypatch.setenv("MOARD_EVENTS_PARTITIONS", "9")
    settings = load_settings(StackSettings)
    assert (settings.kafka_bootstrap_servers, settings.redis_url) == ("k:1", "redis://r")
    assert (settings.database_url, settings.events_partitions) == ("sqlite+aiosqlite:///d", 9)


def test_a_bad_setting_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOARD_EVENTS_PARTITIONS", "0")
    monkeypatch.setenv("MOARD_MODEL_NAME", "../x")
    with pytest.raises(RefusedStart, match=r"(?s)2 setting.*MOARD_EVENTS_PARTITIONS.*MOARD_MODEL_NAME"):
        load_settings(StackSettings)
