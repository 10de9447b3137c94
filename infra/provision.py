"""Installs what the local stack needs from the distribution, when it may; otherwise says the one line to type.

Runs on the standard library alone: ``make setup`` calls it before anything is installed, with the Python that the
virtual environment will be made of. ``make test`` calls it with ``--tests`` for what only the tests run.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from infra.kafka_server import resolve_jars
from infra.tools import APT_OPTIONS, JAVA, STACK_TOOLS, TEST_TOOLS, Tool, find, java_identity, locate, remedy
from libs.errors import RefusedStart


def main(arguments: Sequence[str] = ()) -> int:
    """Install missing programs and fetch Kafka's jars; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.provision", description=__doc__)
    parser.add_argument("--tests", action="store_true", help="install what the tests run, too")
    wanted = STACK_TOOLS + (TEST_TOOLS if parser.parse_args(arguments).tests else ())
    missing = missing_packages(wanted)
    if missing and not _install(missing):
        print(f"{' '.join(missing)} is missing. {remedy(missing)}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        java_identity(find(JAVA))
        print(f"Kafka's jars are in {resolve_jars()}")  # noqa: T201
    except RefusedStart as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def missing_packages(tools: Sequence[Tool] = STACK_TOOLS) -> tuple[str, ...]:
    """Return the packages that bring what this machine lacks, each once."""
    packages = [package for tool in tools if locate(tool) is None for package in tool.packages]
    if importlib.util.find_spec("ensurepip") is None:  # Debian ships venv without it, and then it cannot install pip
        packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    return tuple(dict.fromkeys(packages))


def _install(packages: tuple[str, ...]) -> bool:
    """Install through apt-get as root or with a sudo that asks nothing; False when neither is possible."""
    if shutil.which("apt-get") is None:
        return False
    prefix: list[str] = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None or not _sudo_asks_nothing():
            return False
        prefix = ["sudo", "-n"]
    print(f"Installing {' '.join(packages)} …", flush=True)  # noqa: T201
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-q", "update"],
        ["apt-get", "-q", "-y", *APT_OPTIONS, "install", *packages],
    ):
        done = subprocess.run(  # noqa: S603
            [*prefix, *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            print(f"{' '.join(command)} failed: {done.stderr[-1500:]}", file=sys.stderr)  # noqa: T201
            return False
    return True


def _sudo_asks_nothing() -> bool:
    return subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0  # noqa: S607


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
