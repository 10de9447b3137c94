"""The programs that show a backend's calls, run as they stand against a running system."""

import re
import subprocess
import sys
from collections.abc import Sequence

import pytest

from infra.kafka_server import resolve_jars
from infra.services import ROOT
from infra.tools import JAVA, NODE, find
from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

PROGRAMS = ROOT / "examples/clients"
LANGUAGES = ("python", "node", "java")
SHOWED = r"showed \[(\d+), \d+\] as impression (\w+), clicked \1"


def command(language: str) -> Sequence[str]:
    if language == "python":
        return (sys.executable, "-m", "examples.clients.backend")
    if language == "node":
        return (str(find(NODE)), str(PROGRAMS / "backend.mjs"))
    jackson = ":".join(map(str, resolve_jars().rglob("jackson-*.jar")))
    return (str(find(JAVA)), "-cp", jackson, str(PROGRAMS / "Backend.java"))


def run(language: str, system: RunningSystem) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(language), system.ingest.url, system.serving.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_clicks_are_joined_to_what_was_shown_and_a_page_is_shown_although_nothing_ranks(system: RunningSystem) -> None:
    for number, language in enumerate(LANGUAGES, start=1):
        done = run(language, system)
        assert done.returncode == 0, done.stderr
        assert re.search(SHOWED, done.stdout), f"{language}: {done.stdout}{done.stderr}"
        eventually(
            lambda wanted=number: system.learner_metric("interactions_total", outcome="joined") == wanted,  # type: ignore[misc]
            f"the click of {language} to be joined",
        )
    assert re.search(r"best for her now: \[\d+, \d+, \d+\]", done.stdout)  # the legacy call, of Java

    system.serving.stop()
    for language in LANGUAGES:
        done = run(language, system)
        assert "moard did not rank" in done.stderr
        assert "showed [101, 102] as impression" in done.stdout
    assert done.returncode != 0  # the legacy call of Java has nothing to show instead, and says so
