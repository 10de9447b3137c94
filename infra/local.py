"""The local stack: real Kafka, Redis and MariaDB as processes of this machine, on loopback.

An address given by ``KAFKA_BOOTSTRAP_SERVERS``, ``REDIS_URL`` or ``DATABASE_URL`` is used instead of a server of ours.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infra.kafka_server import BrokerProfile, KafkaServer
from infra.mariadb_server import MariadbServer
from infra.processes import end
from infra.redis_server import RedisServer
from infra.run_state import RunState
from infra.server import LocalServer

Progress = Callable[[str], None]
VARIABLES = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "redis": "REDIS_URL", "mariadb": "DATABASE_URL"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the outside world is."""

    kafka_bootstrap_servers: str
    redis_url: str
    database_url: str

    def environment(self) -> dict[str, str]:
        """Return the variables that point a service here."""
        values = (self.kafka_bootstrap_servers, self.redis_url, self.database_url)
        return dict(zip(VARIABLES.values(), values, strict=True))


class LocalStack:
    """Servers in one folder, with their data and logs. As a context manager it stops what it started, and only that.

    Parameters
    ----------
    broker_profile
        ``kill`` comes back fast after a crash; ``pause`` survives being stopped for longer than 1.5 s.
    database
        False uses an SQLite file instead of MariaDB.
    detached
        True leaves the servers running when this process ends (``moard up``).
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_profile: BrokerProfile = "kill",
        database: bool = True,
        detached: bool = False,
        use_external: bool = True,
    ) -> None:
        self.folder = folder.absolute()
        self._state = RunState(self.folder)
        self.kafka = KafkaServer(self.folder / "kafka", self._state, detached=detached, profile=broker_profile)
        self.redis = RedisServer(self.folder / "redis", self._state, detached=detached)
        self.mariadb = MariadbServer(self.folder / "mariadb", self._state, detached=detached)
        self._database = database
        self._external = {
            name: value for name, variable in VARIABLES.items() if use_external and (value := os.environ.get(variable))
        }
        self._owned = ExitStack()

    @property
    def servers(self) -> list[LocalServer]:
        """The servers this stack starts itself."""
        wanted: list[LocalServer] = [self.kafka, self.redis, *([self.mariadb] if self._database else [])]
        return [server for server in wanted if server.name not in self._external]

    def up(self, progress: Progress | None = None) -> Addresses:
        """Start what is missing, wait until everything is healthy, and return the addresses.

        Raises
        ------
        RefusedStart
            When a program is missing or a server does not become healthy; what was started is stopped again.
        """
        say = progress or (lambda _: None)
        self._owned.enter_context(self._state.owned())
        try:
            self._adopt_or_clean()
            with ThreadPoolExecutor(max_workers=3) as pool:
                list(pool.map(lambda server: self._start(server, say), self.servers))
        except BaseException:
            self.down()
            raise
        return self.addresses

    def down(self) -> None:
        """Stop this stack's servers, also those that an earlier run left behind."""
        with ThreadPoolExecutor(max_workers=3) as pool:
            list(pool.map(lambda server: server.stop(), self.servers))
        for name, left in self._state.running().items():
            if name in VARIABLES:
                end(left.identity, LocalServer.grace_s)
        self._owned.close()

    @property
    def addresses(self) -> Addresses:
        """Where the servers are; meaningful after ``up``."""
        sqlite = f"sqlite+aiosqlite:///{self.folder}/moard.db"
        return Addresses(
            self._external.get("kafka") or self.kafka.address,
            self._external.get("redis") or self.redis.address,
            self._external.get("mariadb") or (self.mariadb.address if self._database else sqlite),
        )

    def __enter__(self) -> "LocalStack":
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.down()

    def _adopt_or_clean(self) -> None:
        """Keep healthy servers of an earlier run, end the others."""
        running = self._state.running()
        for server in self.servers:
            if server.name in running:
                server.adopt(running[server.name])
                if not server.is_healthy():
                    server.stop()

    def _start(self, server: LocalServer, say: Progress) -> None:
        if server.running:
            say(f"{server.name} runs already at {server.address}")
            return
        say(f"starting {server.name} …")
        server.start()
        say(f"{server.name} is up at {server.address}")
