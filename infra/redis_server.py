"""A local Redis without persistence: moard rebuilds what it holds from Kafka and the learner."""

from pathlib import Path

from infra.ports import LOOPBACK
from infra.server import LocalServer, answers
from infra.tools import REDIS, find


class RedisServer(LocalServer):
    """One Redis on loopback."""

    name = "redis"

    def prepare(self) -> None:
        """Nothing: it has no files."""

    def command(self) -> list[str | Path]:
        """Return the command line; ``noeviction`` because a snapshot that vanishes silently is worse than an error."""
        options = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"]
        return [find(REDIS), "--bind", LOOPBACK, "--port", str(self.port), *options]

    def is_healthy(self) -> bool:
        """Return whether it answers and names our process."""
        return answers(self.port, b"INFO server\r\n", f"process_id:{self.pid}\r".encode())

    @property
    def address(self) -> str:
        """The Redis URL."""
        return f"redis://{LOOPBACK}:{self.port}/0"
