"""A missing or old program is named, with the line to type."""

from pathlib import Path

import pytest

from infra import tools
from libs.errors import RefusedStart


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one empty folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(tools, "SYSTEM_FOLDERS", ())
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("tool", tools.STACK_TOOLS, ids=lambda tool: tool.executable)
@pytest.mark.usefixtures("bare_machine")
def test_a_missing_program_is_named_with_the_line_to_type(tool: tools.Tool) -> None:
    with pytest.raises(RefusedStart) as refusal:
        tools.find(tool)
    assert f"{tool.executable} is missing" in str(refusal.value)
    assert f"apt-get install -y --no-install-recommends --no-remove {' '.join(tool.packages)}" in str(refusal.value)


def test_sudo_is_part_of_the_line_for_those_who_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "sudo apt-get install" in tools.remedy(("maven",))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "sudo" not in tools.remedy(("maven",))


def test_servers_outside_a_users_path_are_found(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = program(bare_machine / "sbin" / "mariadbd", "true")
    monkeypatch.setattr(tools, "SYSTEM_FOLDERS", (str(server.parent),))
    assert tools.find(tools.MARIADB) == server


def test_java_home_comes_before_the_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare_machine / "java", "true")
    chosen = program(bare_machine / "jdk" / "bin" / "java", "true")
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "jdk"))
    assert tools.find(tools.JAVA) == chosen


@pytest.mark.parametrize("version", ["17.0.15", "21", "25.0.2"])
def test_a_java_that_kafka_runs_on_is_accepted(tmp_path: Path, version: str) -> None:
    java = program(tmp_path / "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")
    assert version in tools.java_identity(java)


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402"])
def test_a_java_too_old_is_refused_with_what_kafka_needs(tmp_path: Path, version: str) -> None:
    java = program(tmp_path / "java", f"echo 'openjdk version \"{version}\"' >&2")
    with pytest.raises(RefusedStart, match=r"Kafka needs 17 or newer.*apt-get install.*JAVA_HOME"):
        tools.java_identity(java)


def test_a_java_that_does_not_run_is_refused_with_what_it_said(tmp_path: Path) -> None:
    java = program(tmp_path / "java", "echo 'Unable to locate a Java Runtime' >&2; exit 1")
    with pytest.raises(RefusedStart, match="Unable to locate a Java Runtime"):
        tools.java_identity(java)
