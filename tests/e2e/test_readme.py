"""The README's commands, run as they are written: the two that show moard, and the calls, while the second stays up."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.services import ROOT
from tests.e2e.conftest import write_program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

PAGE = (ROOT / "README.md").read_text("utf-8")
COMMANDS, CALLS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ENDS_WITH = re.search(r"and ends with:\n+```\n(.*?)```", PAGE, re.DOTALL)
INTERRUPTIBLE = ("env", "--default-signal=INT")  # what is started in the background may have inherited to ignore it
PORTS = {"ingest": "8001", "serving": "8000"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which `make setup` has nothing to do."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml", "infra/kafka/pom.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    write_program(tmp_path / ".venv/bin/moard", "-m services.cli")
    (tmp_path / ".venv/.setup").touch()
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def demo(clone: Path, environment: dict[str, str]) -> Iterator["Demo"]:
    running = Demo(clone, environment, _commands()[1])
    yield running
    running.stop()


class Demo:
    """The second command: what it prints, and what it leaves running."""

    def __init__(self, folder: Path, environment: dict[str, str], command: str) -> None:
        self.lines: list[str] = []
        self._folder = folder
        self.process = subprocess.Popen(
            [*INTERRUPTIBLE, "bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches make and what it started, as in a terminal
        )

    def read_until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip().replace(f"{self._folder}/", ""))
            if text in line:
                return
        raise AssertionError(f"ended without {text!r}: {self.lines[-20:]}")

    def stop(self) -> None:
        """Press Ctrl-C once and wait."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # a failure, and nothing of it goes on running
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            raise


def _commands() -> list[str]:
    commands = [line.split("#")[0].strip() for line in COMMANDS.splitlines()]
    assert commands == ["make quickstart", "make demo"]
    return commands


def _shape(text: str) -> list[str]:
    """Return the lines with their numbers left out."""
    return [re.sub(r"[\d.,]+", "#", line.strip()) for line in text.strip().splitlines()]


def test_the_first_command_works_as_written(clone: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", _commands()[0]], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "make demo" in done.stdout


def test_the_second_ends_as_shown_and_takes_the_calls_as_written(demo: Demo) -> None:
    demo.read_until("Everything stays up until Ctrl-C.")
    assert ENDS_WITH is not None
    first = next(at for at, line in enumerate(demo.lines) if re.match(r"[\d,]+ requests and", line))
    printed = demo.lines[first : first + len(ENDS_WITH[1].splitlines())]
    assert _shape("\n".join(printed)) == _shape(ENDS_WITH[1])
    moard, popularity, chance = (
        float(re.search(rf"{name} ([\d.]+)", printed[1])[1])  # type: ignore[index]
        for name in ("moard", "popularity so far", "random")
    )
    assert moard > popularity + 0.3 > chance

    answers = _answers(demo)
    assert answers[0]["content_id"] == 42
    assert len(answers[1]["slate"]) == 2
    assert answers[2]["accepted"] == 1


def _answers(demo: Demo) -> list[dict[str, Any]]:
    """Make the README's calls of what the demo leaves running, the impression of one put into the next."""
    calls = CALLS
    for name, port in PORTS.items():
        (address,) = (line.split()[-1] for line in demo.lines if line.startswith(f"{name} is ready at"))
        calls = calls.replace(f"localhost:{port}", address.removeprefix("http://"))
    answers: list[dict[str, Any]] = []
    for call in calls.strip().split("\n\n"):
        if answers:
            call = call.replace("…from the answer…", str(answers[-1].get("impression_id")))
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    return answers
