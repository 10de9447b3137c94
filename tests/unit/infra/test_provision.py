"""``make setup`` on machines that lack something, with an apt-get of the test's own."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from infra import provision, tools

MACHINE = (tools.JAVA, tools.MAVEN, tools.REDIS, tools.MARIADB, tools.MARIADB_INSTALL)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH and holds every program; jars are there already."""
    for tool in MACHINE:
        program(tmp_path / tool.executable, "echo 'openjdk version \"17.0.1\"' >&2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(tools, "SYSTEM_FOLDERS", ())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(provision, "resolve_jars", lambda: tmp_path / "jars")
    return tmp_path


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def apt_get(machine: Path, exit_code: int = 0) -> Path:
    """An apt-get that writes down how it was called."""
    calls = machine / "calls.txt"
    program(machine / "apt-get", f'echo "$@" >> {calls}; echo unmet dependencies >&2; exit {exit_code}')
    return calls


def test_a_complete_machine_is_left_alone(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = apt_get(machine)
    assert provision.main() == 0
    assert not calls.exists()
    assert f"jars are in {machine}/jars" in capsys.readouterr().out


def test_what_is_missing_is_installed_in_one_go_and_nothing_removed(machine: Path) -> None:
    calls = apt_get(machine)
    for tool in (tools.REDIS, tools.MARIADB, tools.MARIADB_INSTALL):
        (machine / tool.executable).unlink()
    assert provision.main() == 0
    update, install = calls.read_text().splitlines()
    assert update.endswith("update")
    assert "--no-remove" in install
    assert install.endswith("install redis-server mariadb-server-core mariadb-client-core")


def test_what_only_the_tests_run_is_installed_for_them_alone(machine: Path) -> None:
    calls = apt_get(machine)
    assert provision.main() == 0
    assert not calls.exists()
    assert provision.main(["--tests"]) == 0
    assert calls.read_text().splitlines()[1].endswith("install default-jdk-headless nodejs npm chromium prometheus")


def test_a_python_without_ensurepip_needs_its_venv_package(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == "ensurepip" else real(name)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert provision.missing_packages() == (f"python3.{sys.version_info.minor}-venv",)


@pytest.mark.parametrize("obstacle", ["no apt-get", "apt-get fails", "a user without sudo"])
def test_where_nothing_can_be_installed_the_line_to_type_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], obstacle: str
) -> None:
    (machine / "redis-server").unlink()
    if obstacle != "no apt-get":
        apt_get(machine, exit_code=100)
    if obstacle == "a user without sudo":
        monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert provision.main() == 2
    said = capsys.readouterr().err
    sudo = "sudo " if obstacle == "a user without sudo" else ""
    assert f"Install it with: {sudo}apt-get install -y --no-install-recommends --no-remove redis-server" in said
    assert ("unmet dependencies" in said) == (obstacle == "apt-get fails")


def test_an_old_java_is_refused_before_anything_long_begins(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(machine / "java", "echo 'openjdk version \"11.0.2\"' >&2")
    assert provision.main() == 2
    assert "Kafka needs 17 or newer" in capsys.readouterr().err
