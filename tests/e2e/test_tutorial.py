"""The tutorial's commands, run as they are written, one after the other."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ports import free_port
from infra.run_state import RunState
from infra.services import ROOT
from tests.e2e.conftest import write_program

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

PAGE = (ROOT / "docs/tutorial.md").read_text("utf-8")
PORTS = {"8000": "MOARD_SERVING_PORT", "8001": "MOARD_INGEST_PORT", "8002": "MOARD_LEARNER_METRICS_PORT"}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A folder that looks like a clone in which `make setup` has been run, and the environment to work there."""
    (tmp_path / "Makefile").write_text("setup:\n")
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    for name, arguments in {"moard": "-m services.cli", "python": ""}.items():
        write_program(activate.parent / name, arguments)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    yield environment
    subprocess.run([activate.parent / "moard", "down"], cwd=tmp_path, env=environment, check=False)


def _script(ports: dict[str, int]) -> str:
    """All blocks as one script, with each block's last line told; on ports that nobody else uses."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 10
    script = "\n".join(f"{block}\necho '--- block {number} done'" for number, block in enumerate(blocks, start=1))
    for usual, port in ports.items():
        script = script.replace(f"localhost:{usual}", f"localhost:{port}")
    return script


def test_every_command_works_as_written(shell: dict[str, str], tmp_path: Path) -> None:
    ports = {usual: free_port() for usual in PORTS}
    shell |= {PORTS[usual]: str(port) for usual, port in ports.items()}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", _script(ports)],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    blocks = re.split(r"--- block \d+ done\n", done.stdout)
    said = dict(enumerate(blocks, start=1))
    assert '"policy":"cold"' in said[3].replace(" ", "")
    assert '"accepted":1' in said[4].replace(" ", "")
    assert '"field":"kind"' in said[5].replace(" ", "")
    learned, chance = (_last_fifth(said[6], ranker) for ranker in ("moard", "random"))
    assert learned > chance + 0.5
    assert RunState(tmp_path / ".moard/stack").running() == {}


def _last_fifth(table: str, ranker: str) -> float:
    (line,) = (line for line in table.splitlines() if line.split()[:1] == [ranker])
    return float(line.split()[-1])
