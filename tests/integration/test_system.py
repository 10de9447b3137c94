"""The whole of moard as ``moard up`` starts it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from infra.processes import is_running
from infra.run_state import RunState

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

Moard = Callable[..., subprocess.CompletedProcess[str]]
SERVICES = ("learner", "ingest", "serving")


@pytest.fixture
def moard(tmp_path: Path) -> Iterator[Moard]:
    """The command in an empty folder; what it started is stopped at the end."""
    root = Path(__file__).parents[2]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    yield run
    run("down")


def _settings(printed: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in printed.splitlines())


def test_up_starts_all_that_does_not_run_and_down_stops_all_that_does(moard: Moard, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MOARD_SERVING_EPSILON=2\n")
    refused = moard("up")
    assert refused.returncode == 2
    assert "MOARD_SERVING_EPSILON" in refused.stderr
    assert "Traceback" not in refused.stderr

    (tmp_path / ".env").write_text("MOARD_SERVING_CORS_ORIGINS=http://localhost:3000\n")
    first = moard("up")
    assert first.returncode == 0, first.stderr
    settings = _settings(first.stdout)
    state = RunState(tmp_path / ".moard/stack")
    running = state.running()
    assert set(running) == {"kafka", "redis", "mariadb", *SERVICES}

    ingest = f"http://127.0.0.1:{settings['MOARD_INGEST_PORT']}"
    assert httpx.put(f"{ingest}/api/v1/contents/1", json={"title": "A"}).status_code == 200
    serving = f"http://127.0.0.1:{settings['MOARD_SERVING_PORT']}"
    ranked = httpx.post(
        f"{serving}/api/v1/rank",
        json={"user_id": "ann", "candidates": [1]},
        headers={"origin": "http://localhost:3000"},
    )
    assert ranked.status_code == 200
    assert ranked.headers["access-control-allow-origin"] == "http://localhost:3000"  # the .env beside it counts

    os.kill(running["learner"].identity.pid, 9)
    again = moard("up")
    assert again.returncode == 0, again.stderr
    assert _settings(again.stdout) == settings
    changed = {name for name, server in state.running().items() if server != running[name]}
    assert changed == {"learner"}

    assert moard("down").returncode == 0
    assert state.running() == {}
    assert not any(is_running(server.identity) for server in running.values())
    assert (tmp_path / ".moard/stack/checkpoints").is_dir()
