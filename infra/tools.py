"""The programs of the machine that the local stack runs, and what to type when one is missing."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from libs.errors import RefusedStart

MIN_JAVA = 17
"""Kafka 4 is compiled for Java 17."""

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin")
"""Where servers live that a normal user's PATH leaves out."""


APT_OPTIONS = ("--no-install-recommends", "--no-remove")
"""MariaDB's package conflicts with MySQL's: rather fail than take a server away from the machine."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program and the Debian packages that bring it."""

    executable: str
    packages: tuple[str, ...]
    purpose: str


JAVA = Tool("java", ("default-jre-headless",), "runs Kafka")
MAVEN = Tool("mvn", ("maven",), "fetches Kafka's jars")
REDIS = Tool("redis-server", ("redis-server",), "keeps snapshots and user histories")
MARIADB = Tool("mariadbd", ("mariadb-server-core", "mariadb-client-core"), "keeps the catalogue")
MARIADB_INSTALL = Tool("mariadb-install-db", MARIADB.packages, "creates MariaDB's data folder")
STACK_TOOLS = (JAVA, MAVEN, REDIS, MARIADB, MARIADB_INSTALL)
JAVAC = Tool("javac", ("default-jdk-headless",), "compiles the Java example that the tests run")
NODE = Tool("node", ("nodejs",), "runs the Node example that the tests run")
NPM = Tool("npm", ("npm",), "fetches what the Node examples need")
CHROMIUM = Tool("chromium", ("chromium",), "opens the pages that the tests look at")
PROMETHEUS = Tool("prometheus", ("prometheus",), "runs every query of the dashboards in the tests")
PROMTOOL = Tool("promtool", PROMETHEUS.packages, "tests the alerts")
TEST_TOOLS = (JAVAC, NODE, NPM, CHROMIUM, PROMETHEUS, PROMTOOL)


def find(tool: Tool) -> Path:
    """Return where the program is.

    Raises
    ------
    RefusedStart
        Naming the program, what needs it, and the one line that installs it.
    """
    found = locate(tool)
    if found is None:
        raise RefusedStart(f"{tool.executable} is missing ({tool.purpose}). {remedy(tool.packages)}")
    return found


def locate(tool: Tool) -> Path | None:
    """Return where the program is, None when it is not installed. ``JAVA_HOME`` wins over the PATH for Java."""
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *SYSTEM_FOLDERS]
    if tool is JAVA and (home := os.environ.get("JAVA_HOME")):
        folders.insert(0, f"{home}/bin")
    found = shutil.which(tool.executable, path=os.pathsep.join(folders))
    return Path(found) if found else None


def remedy(packages: tuple[str, ...]) -> str:
    """Return the line to type that installs these packages."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"Install it with: {sudo}apt-get install -y {' '.join((*APT_OPTIONS, *packages))}"


def java_identity(java: Path) -> str:
    """Return the full version text of a Java that is new enough.

    Raises
    ------
    RefusedStart
        When it is older than Kafka needs, or does not run.
    """
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    text = answer.stderr + answer.stdout
    major = re.search(r'version "(\d+)', text)
    if answer.returncode != 0 or major is None:
        raise RefusedStart(f"{java} does not run: {text.strip()[:500]}. {remedy(JAVA.packages)}")
    if int(major[1]) < MIN_JAVA:
        raise RefusedStart(
            f"{java} is Java {major[1]}, Kafka needs {MIN_JAVA} or newer. {remedy(JAVA.packages)}"
            " and set JAVA_HOME when an older one comes first in the PATH."
        )
    return text
