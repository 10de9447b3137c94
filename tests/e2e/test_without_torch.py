"""Serving starts and ranks where torch is not installed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from infra.local import LocalStack
from infra.services import ROOT, ServiceProcess

pytestmark = pytest.mark.stack


@pytest.fixture
def python_without_torch(tmp_path: Path) -> Path:
    """A virtual environment of the base dependencies and the text extra, at the locked versions."""
    environment = tmp_path / "venv"
    uv = Path(sys.executable).with_name("uv")
    python = environment / "bin/python"
    requirements = [
        "--constraints",
        str(ROOT / "requirements.lock"),
        "--extra",
        "text",
        "-r",
        str(ROOT / "pyproject.toml"),
    ]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, environment],
        [uv, "pip", "install", "--quiet", "--python", python, *requirements],
    ):
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return python


def test_serving_needs_no_torch(
    python_without_torch: Path,
    fresh_stack: Callable[..., LocalStack],
    services: Callable[..., ServiceProcess],
    tmp_path: Path,
) -> None:
    absent = subprocess.run([python_without_torch, "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in absent.stderr

    environment = fresh_stack(database=False).addresses.environment() | {"MOARD_STATE_PATH": str(tmp_path / "state")}
    serving = services("serving", environment, python=str(python_without_torch))
    answer = httpx.post(f"{serving.url}/api/v1/rank", json={"user_id": "u", "candidates": [1, 2, 3], "size": 2})
    assert answer.status_code == 200
    assert len(answer.json()["slate"]) == 2
