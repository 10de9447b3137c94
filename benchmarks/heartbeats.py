"""When the heartbeats of a service's consumer group were answered: written down by the service itself, unasked.

Python runs a module named ``sitecustomize`` before anything else; one that is first on the path can watch a service as
it is.
"""

import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from infra.services import ROOT

SESSION_S: Final = 10.0  # aiokafka's session timeout, which the readers leave as it is
_VARIABLE: Final = "MOARD_BENCH_HEARTBEATS"
_MODULE: Final = "from benchmarks.heartbeats import record\nrecord()\n"


def watched(folder: Path) -> Mapping[str, str]:
    """Return environment variables with which a service writes its heartbeats into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_MODULE)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", _VARIABLE: str(folder / "heartbeats")}


def gaps(folder: Path) -> list[float]:
    """Return the seconds between one accepted heartbeat and the next."""
    path = folder / "heartbeats"
    moments = [float(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [after - before for before, after in pairwise(moments)]


def record() -> None:
    """Let every heartbeat that the broker accepts leave a line; runs in the service."""
    from aiokafka.consumer.group_coordinator import GroupCoordinator

    path, beat = Path(os.environ[_VARIABLE]), GroupCoordinator._do_heartbeat

    async def recorded(coordinator: GroupCoordinator) -> bool:
        accepted = bool(await beat(coordinator))
        if accepted:
            _note(path)
        return accepted

    GroupCoordinator._do_heartbeat = recorded


def _note(path: Path) -> None:
    with path.open("a") as lines:
        lines.write(f"{time.time()}\n")
