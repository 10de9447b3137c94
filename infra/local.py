"""The local stack: real Kafka, Redis and MariaDB as processes of this machine, on loopback.

An address given by ``KAFKA_BOOTSTRAP_SERVERS``, ``REDIS_URL`` or ``DATABASE_URL`` is used instead of a server of ours.
"""

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infra.kafka_server import BrokerProfile, KafkaServer
from infra.mariadb_server import MariadbServer
from infra.redis_server import RedisServer
from infra.run_state import RunningServer, RunState
from infra.server import LocalServer
from libs.errors import RefusedStart

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
        ``kill`` comes back fast after a crash, but a broker that stands still for 1.5 s is fenced; so tests that kill
        it name it, and everything else has ``pause``.
    database
        False uses an SQLite file instead of MariaDB.
    detached
        True leaves the servers running when this process ends (``moard up``); otherwise they end with it.
    use_external
        False starts servers of our own even where the environment names others.
    broker_proxied_at
        Port of a proxy that the broker shall advertise too (``KafkaServer``).
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker_profile: BrokerProfile = "pause",
        database: bool = True,
        detached: bool = False,
        use_external: bool = True,
        broker_proxied_at: int | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._state = RunState(self.folder)
        self.kafka = KafkaServer(
            self.folder / "kafka",
            self._state,
            detached=detached,
            profile=broker_profile,
            proxied_at=broker_proxied_at,
        )
        self.redis = RedisServer(self.folder / "redis", self._state, detached=detached)
        self.mariadb = MariadbServer(self.folder / "mariadb", self._state, detached=detached)
        self._database = database
        self._detached = detached
        self._external = {
            name: value for name, variable in VARIABLES.items() if use_external and (value := os.environ.get(variable))
        }
        self._owned = ExitStack()
        self._holding = False

    @property
    def servers(self) -> list[LocalServer]:
        """The servers this stack starts itself."""
        wanted: list[LocalServer] = [self.kafka, self.redis, *([self.mariadb] if self._database else [])]
        return [server for server in wanted if server.name not in self._external]

    def up(self, progress: Progress | None = None) -> Addresses:
        """Start what is missing, wait until everything is healthy, and return the addresses.

        A detached stack that runs already is left as it is; what a killed run left behind is ended first.

        Raises
        ------
        RefusedStart
            When a program is missing, the folder is in use, or a server does not become healthy; then all are stopped.
        """
        say = progress or (lambda _: None)
        self._owned.enter_context(self._state.owned())
        try:
            self._take_stock()
            self._side_by_side(lambda server: self._start(server, say), self.servers)
        except BaseException:
            self._stop_all()
            raise
        self._holding = not self._detached
        if self._detached:
            self._owned.close()  # from here on the state file knows
        return self.addresses

    def down(self) -> None:
        """Stop what this stack started; when detached, whatever runs in the folder. Data stays.

        Raises
        ------
        RefusedStart
            When another living process has the folder.
        """
        if self._holding:
            self._stop_all()
        elif self._detached:
            self._owned.enter_context(self._state.owned())
            self._adopt(self._state.running())
            self._stop_all()

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

    def _take_stock(self) -> None:
        """Keep a detached stack's healthy servers; end what a killed run left behind."""
        running = self._state.running()
        outliving = [name for name, server in running.items() if server.detached]
        if outliving and not self._detached:
            raise RefusedStart(f"{self.folder} already runs {', '.join(outliving)}: first type: moard down")
        self._adopt(running)
        for server in self._all:
            if not (server in self.servers and server.name in outliving and server.is_healthy()):
                server.stop()

    def _adopt(self, running: Mapping[str, RunningServer]) -> None:
        for server in self._all:
            if server.name in running:
                server.adopt(running[server.name])

    def _stop_all(self) -> None:
        try:
            self._side_by_side(LocalServer.stop, self._all)
        finally:
            self._holding = False
            self._owned.close()

    @property
    def _all(self) -> tuple[LocalServer, ...]:
        return self.kafka, self.redis, self.mariadb

    @staticmethod
    def _side_by_side(act: Callable[[LocalServer], None], servers: Collection[LocalServer]) -> None:
        with ThreadPoolExecutor(max_workers=len(VARIABLES)) as pool:
            list(pool.map(act, servers))

    def _start(self, server: LocalServer, say: Progress) -> None:
        if server.running:
            say(f"{server.name} runs already at {server.address}")
            return
        say(f"starting {server.name} …")
        server.start()
        say(f"{server.name} is up at {server.address}")
