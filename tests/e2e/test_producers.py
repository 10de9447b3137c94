"""The programs that produce to Kafka themselves, run as they stand: each lands where the user's story is."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner

from infra.kafka_server import resolve_jars
from infra.services import ROOT
from infra.tools import JAVA, NODE, NPM, find
from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

PROGRAMS = ROOT / "examples/producers"
PARTITIONS = [0, 1, 2, 3]


def _kafkajs(folder: Path) -> Path:
    """The Node program beside the package that it says it needs."""
    program = Path(shutil.copy(PROGRAMS / "produce.mjs", folder))
    (needs,) = re.findall(r"npm install (kafkajs@[\d.]+)", program.read_text())
    subprocess.run([find(NPM), "install", "--silent", "--no-audit", "--no-fund", needs], cwd=folder, check=True)
    return program


def _commands(folder: Path) -> dict[str, Sequence[str]]:
    return {
        "python": (sys.executable, "-m", "examples.producers.produce"),
        "node": (str(find(NODE)), str(_kafkajs(folder))),
        "java": (str(find(JAVA)), "-cp", f"{resolve_jars()}/*", str(PROGRAMS / "Produce.java")),
    }


def test_a_click_of_each_language_is_learned_from_the_partition_of_its_user(
    system: RunningSystem, tmp_path: Path
) -> None:
    environment = os.environ | system.stack.addresses.environment()
    for number, (language, command) in enumerate(_commands(tmp_path).items(), start=1):
        user = f"사용자-{number}"
        done = subprocess.run(
            [*command, user, "42"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{language}: {done.stderr}"
        wanted = DefaultPartitioner()(user.encode(), PARTITIONS, PARTITIONS)
        assert done.stdout.startswith(f"partition {wanted}, offset "), f"{language}: {done.stdout}"
        eventually(partial(_organic, system, number), f"the click of {language} to be learned from")
        eventually(partial(_visited, system, user), f"the click of {language} in the user's history")


def _organic(system: RunningSystem, wanted: int) -> bool:
    return system.learner_metric("interactions_total", outcome="organic") == wanted


def _visited(system: RunningSystem, user: str) -> bool:
    return system.history(user) == [42]
