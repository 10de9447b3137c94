"""``moard config``: what is in force and where it comes from."""

from pathlib import Path

import pytest

from libs.errors import RefusedStart
from services.cli.config import SERVICES, in_force_here


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "MOARD_EVENTS_PARTITIONS=8\nMOARD_VECTOR_SIZE=16\nREDIS_URL=redis://:hush@store:1/0\n"
    )
    monkeypatch.setenv("MOARD_VECTOR_SIZE", "32")
    monkeypatch.setenv("MOARD_KAFKA_SASL_PASSWORD", "hush")

    found = in_force_here(SERVICES)

    assert found["MOARD_EVENTS_PARTITIONS"] == {"value": 8, "source": ".env", "services": list(SERVICES)}
    assert (found["MOARD_VECTOR_SIZE"]["value"], found["MOARD_VECTOR_SIZE"]["source"]) == (32, "environment")
    assert found["MOARD_CONTENTS_PARTITIONS"]["source"] == "default"
    assert found["REDIS_URL"]["value"] == "redis://store:1/0"
    assert found["MOARD_LEARNER_SEED"]["services"] == ["learner"]
    assert "hush" not in repr(found)


def test_a_setting_that_refuses_a_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOARD_EVENTS_PARTITIONS", "0")
    with pytest.raises(RefusedStart, match="MOARD_EVENTS_PARTITIONS"):
        in_force_here(("learner",))
