"""What each service says of itself once a second, for people who have no Prometheus: the console and ``moard status``.

A status is one JSON document. It is for looking at: nothing depends on it, and a store that is away costs nothing but
the view.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson
import structlog
from prometheus_client import Counter

from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

STATUS_TTL_S: Final = 60.0
"""How long a status outlives its service: long enough to read that something has fallen silent."""

_EVERY_S: Final = 1.0
_OVER_S: Final = 10.0  # rates are of so many seconds: long enough to be calm, short enough to follow

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Posted:
    """A status on the board: JSON, and how many seconds ago it was put there, by the store's clock."""

    service: str
    instance: str
    status: bytes
    age_s: float


class StatusBoard(Protocol):
    """The last status of every instance of every service, each for a while."""

    async def put(self, service: str, instance: str, status: bytes) -> None:
        """Replace an instance's status; raises ``StoreUnavailable`` after a second at the latest."""

    async def remove(self, service: str, instance: str) -> None:
        """Take an instance's status away, as it ends on purpose; raises ``StoreUnavailable``."""

    async def all(self) -> list[Posted]:
        """Return what has not expired, by service and instance; raises ``StoreUnavailable``."""

    async def close(self) -> None:
        """Close the connection."""


class MemoryStatusBoard:
    """The twin, for services of one process."""

    def __init__(self, ttl_s: float = STATUS_TTL_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock_s = clock_s
        self._posted: dict[tuple[str, str], tuple[float, bytes]] = {}

    async def put(self, service: str, instance: str, status: bytes) -> None:
        """Replace an instance's status."""
        self._posted[service, instance] = (self._clock_s(), status)

    async def remove(self, service: str, instance: str) -> None:
        """Take an instance's status away."""
        self._posted.pop((service, instance), None)

    async def all(self) -> list[Posted]:
        """Return what has not expired."""
        now_s = self._clock_s()
        ages = [(*key, status, now_s - put_s) for key, (put_s, status) in sorted(self._posted.items())]
        return [Posted(*parts) for parts in ages if parts[-1] < self._ttl_s]

    async def close(self) -> None:
        """Nothing to close."""


class StatusPublisher:
    """Puts a service's status on the board each second, beside everything else the process does.

    Parameters
    ----------
    instance
        Tells this process from others of the same service, also after a restart (``instance_of``).
    describe
        Returns what the service has to say, ready for JSON; every number as ``/metrics`` has it.
    settings
        What is in force, without secrets (``libs.adapters.settings.in_force``).
    failures
        Counts what the board did not take.
    """

    def __init__(
        self,
        board: StatusBoard,
        service: str,
        instance: str,
        describe: Callable[[], Awaitable[Mapping[str, Any]]],
        settings: Mapping[str, Any],
        failures: Counter,
    ) -> None:
        self._board = board
        self._service = service
        self._instance = instance
        self._describe = describe
        self._settings = settings
        self._failures = failures
        self._started_ms = _now_ms()
        self._away = False

    async def run(self) -> None:
        """Publish until cancelled, then take the status away."""
        try:
            while True:
                await self.publish()
                await asyncio.sleep(_EVERY_S)
        finally:
            await self._leave()

    async def publish(self) -> None:
        """Publish once. Whatever hinders that is counted, logged when it begins, and tried again next time."""
        try:
            await self._board.put(self._service, self._instance, orjson.dumps(await self._status()))
        except Exception as error:  # a view never ends the service that it shows
            self._failures.inc()
            if not self._away:
                log.warning("status.not_published", exc_info=error)
            self._away = True
        else:
            self._away = False

    async def _status(self) -> dict[str, Any]:
        return {
            "service": self._service,
            "instance": self._instance,
            "version": package_version(),
            "at_ms": _now_ms(),
            "started_ms": self._started_ms,
            **await self._describe(),
            "settings": self._settings,
        }

    async def _leave(self) -> None:
        try:
            await self._board.remove(self._service, self._instance)
        except StoreUnavailable as error:  # it expires
            log.info("status.not_removed", error=str(error))


class Rates(Generic[KeyT]):
    """How fast totals rise, each over the last seconds."""

    def __init__(self, over_s: float = _OVER_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._over_s = over_s
        self._clock_s = clock_s
        self._seen: deque[tuple[float, dict[KeyT, float]]] = deque()

    def per_s(self, totals: Mapping[KeyT, float]) -> dict[KeyT, float]:
        """Return each total's rise per second since the oldest look in the span; 0 at the first look.

        >>> seconds = iter([0.0, 2.0])
        >>> rates = Rates(clock_s=lambda: next(seconds))
        >>> rates.per_s({"updates": 10.0}), rates.per_s({"updates": 30.0})
        ({'updates': 0.0}, {'updates': 10.0})
        """
        now_s = self._clock_s()
        self._seen.append((now_s, dict(totals)))
        while now_s - self._seen[0][0] > self._over_s:
            self._seen.popleft()
        since_s, before = self._seen[0]
        passed_s = now_s - since_s
        return {
            key: max(0.0, total - before.get(key, total)) / passed_s if passed_s > 0 else 0.0
            for key, total in totals.items()
        }


def instance_of(port: int, slot: int | None = None) -> str:
    """Return a name that this process has again after a restart: host and port, and its place among workers.

    A port that the system chooses says nothing; the process id stands in for it.
    """
    name = f"{socket.gethostname()}:{port or os.getpid()}"
    return name if slot is None else f"{name}/{slot}"


@lru_cache(maxsize=1)  # parsing the package's metadata takes a millisecond, and a status is published each second
def package_version() -> str:
    """Return the version of moard, ``unknown`` where it runs without being installed."""
    try:
        return version("moard")
    except PackageNotFoundError:
        return "unknown"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
