"""A local Apache Kafka broker: one KRaft process from jars that Maven resolves."""

import base64
import fcntl
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
import uuid
from pathlib import Path
from string import Template
from typing import Literal

from infra.ports import LOOPBACK
from infra.run_state import RunState
from infra.server import LocalServer, answers
from infra.tools import JAVA, MAVEN, find, java_identity
from libs.errors import RefusedStart

HERE = Path(__file__).parent / "kafka"
CACHE_VARIABLE = "MOARD_CACHE_PATH"
BrokerProfile = Literal["kill", "pause"]

_SESSIONS = {
    # After kill -9 a new broker waits for the old registration to expire: 1.5 s cut the first acknowledgement from
    # 13.3 s to 3.7 s (measured). A pause longer than the session fences the broker, so pauses keep the default of 9 s.
    "kill": "broker.session.timeout.ms=1500\nbroker.heartbeat.interval.ms=300\n",
    "pause": "",
}
_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # C1 alone saves 40 % of the start's CPU

METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 2, 0, -1, 0)
"""Length, api key 3 (Metadata), version 2, correlation id, no client id, no topics. The answer holds the cluster id."""


def cache_folder() -> Path:
    """Return the folder shared by all stacks: jars and the class-data archive."""
    return Path(os.environ.get(CACHE_VARIABLE, Path(__file__).parents[1] / ".moard/cache")).absolute()


class KafkaServer(LocalServer):
    """One broker on loopback; auto-created topics are off.

    Parameters
    ----------
    profile
        How soon it notices that a broker is gone: ``kill`` for tests that kill it, ``pause`` for everything else.
    proxied_at
        Port of a TCP proxy in front of a listener of its own (``proxied_port``): whoever bootstraps through the proxy
        is told to come back through it. None: there is no such listener.
    """

    name = "kafka"
    grace_s = 30.0  # writing the class-data archive takes 4.5 s on a quiet machine

    def __init__(
        self,
        folder: Path,
        state: RunState,
        *,
        detached: bool = False,
        profile: BrokerProfile = "kill",
        proxied_at: int | None = None,
    ) -> None:
        super().__init__(folder, state, detached=detached)
        self._profile = profile
        self._proxied_at = proxied_at
        self.port_count = 2 if proxied_at is None else 3

    def prepare(self) -> None:
        """Resolve the jars once for the machine, write the configuration, format the data folder once."""
        resolve_jars()
        self._unfinished_archive.unlink(missing_ok=True)  # left by a killed run: it may be cut short
        data = self.data
        values = {
            "port": self.ports[0],
            "controller_port": self.ports[1],
            "data": data,
            "proxied": "",
            "proxied_at": "",
        }
        if self._proxied_at is not None:
            values["proxied"] = f",PROXIED://{LOOPBACK}:{self.proxied_port}"
            values["proxied_at"] = f",PROXIED://{LOOPBACK}:{self._proxied_at}"
        template = Template((HERE / "server.properties").read_text())
        self._properties.write_text(template.substitute(values) + _SESSIONS[self._profile])
        if not (data / "meta.properties").exists():
            self._run("kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", str(self._properties))

    def command(self) -> list[str | Path]:
        """Return the command line, with the class-data archive when there is one, else one that makes it at its end."""
        archive = _archive()
        option = f"-XX:SharedArchiveFile={archive}"
        if not archive.exists():
            option = f"-XX:ArchiveClassesAtExit={self._unfinished_archive}"
        log = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        return [find(JAVA), *_JVM, option, log, "-cp", _classpath(), "kafka.Kafka", self._properties]

    def stop(self) -> None:
        """Stop the broker; the first clean stop of a machine leaves the class-data archive behind (4.5 s, once)."""
        if self._child.stop(self.grace_s) and self._unfinished_archive.exists():
            keep_archive(self._unfinished_archive)

    def is_healthy(self) -> bool:
        """Return whether the broker of this data folder answers, which it does once it is registered."""
        return answers(self.port, METADATA_REQUEST, self._cluster_id.encode())

    @property
    def address(self) -> str:
        """The bootstrap address."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def proxied_port(self) -> int:
        """Where the proxy of ``proxied_at`` forwards to."""
        return self.ports[2]

    def run_tool(self, main_class: str, *arguments: str) -> str:
        """Return what one of Kafka's own command line tools prints."""
        return self._run(main_class, *arguments)

    def _run(self, main_class: str, *arguments: str) -> str:
        command: list[str | Path] = [find(JAVA), "-XX:TieredStopAtLevel=1", "-cp", _classpath(), main_class, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise RefusedStart(f"{main_class} failed: {(done.stderr or done.stdout)[-1500:]}")
        return done.stdout

    @property
    def _unfinished_archive(self) -> Path:
        return self.folder / "classes.jsa"  # goes with the folder where the broker was killed while it wrote

    @property
    def data(self) -> Path:
        """Folder of the log. A broker that finds none at its start makes one, as another cluster."""
        return self.folder / "data"

    @property
    def _cluster_id(self) -> str:
        lines = (self.data / "meta.properties").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"


def resolve_jars() -> Path:
    """Return the folder of jars, fetching them with Maven when it is not there; safe to call from several processes."""
    jars = _jars()
    if jars.exists():
        return jars
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            _fetch_jars(jars)
    return jars


def _fetch_jars(jars: Path) -> None:
    fresh = Path(tempfile.mkdtemp(dir=cache_folder()))
    command: list[str | Path] = [find(MAVEN), "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies"]
    command.append(f"-DoutputDirectory={fresh}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        shutil.rmtree(fresh)
        raise RefusedStart(
            f"Maven could not fetch Kafka's jars: {done.stdout[-1500:]}\n"
            "Check that Maven reaches its repository, or set KAFKA_BOOTSTRAP_SERVERS to a broker of your own."
        )
    fresh.rename(jars)


def _jars() -> Path:
    digest = hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:12]
    return cache_folder() / f"kafka-{digest}"


def _archive() -> Path:
    """Return where the class-data archive lies; the JVM ignores one that does not fit its version and jars."""
    identity = hashlib.sha256(java_identity(find(JAVA)).encode()).hexdigest()[:12]
    return cache_folder() / f"{_jars().name}-{identity}.jsa"


def keep_archive(written: Path) -> None:
    """Move a whole class-data archive to the cache, where it appears at once or not at all."""
    fresh = _archive().with_suffix(f".{os.getpid()}")
    shutil.move(written, fresh)  # the folders may be on different disks, so a rename alone would not do
    fresh.replace(_archive())


def _classpath() -> str:
    return f"{_jars()}/*"


def _new_cluster_id() -> str:
    """Return a random cluster id, as Kafka writes them; one that begins with a dash would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
