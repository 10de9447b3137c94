"""A local MariaDB with a database and a user of moard's own."""

import os
import shutil
import subprocess
from pathlib import Path

from infra.ports import LOOPBACK
from infra.server import LocalServer, answers
from infra.tools import MARIADB, MARIADB_INSTALL, find
from libs.errors import RefusedStart

DATABASE = "moard"
USER = "moard"
PASSWORD = "moard"  # noqa: S105 - a throw-away server on loopback

BOOTSTRAP_SQL = f"""
CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS '{USER}'@'{LOOPBACK}' IDENTIFIED BY '{PASSWORD}';
GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'{LOOPBACK}';
FLUSH PRIVILEGES;
"""


class MariadbServer(LocalServer):
    """One MariaDB on loopback."""

    name = "mariadb"

    def prepare(self) -> None:
        """Create the data folder once, and the statements that make database and user."""
        data = self._data
        self._scratch.mkdir(parents=True, exist_ok=True)
        if not data.exists():
            unfinished = self.folder / "data.new"  # renamed when whole: an interrupted start begins again
            shutil.rmtree(unfinished, ignore_errors=True)
            options = [
                f"--datadir={unfinished}",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
                *_as_root(),
            ]
            command: list[str | Path] = [find(MARIADB_INSTALL), "--no-defaults", *options]
            environment = {**os.environ, "TMPDIR": str(self._scratch)}
            made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
            if made.returncode != 0:
                raise RefusedStart(f"mariadb-install-db failed in {data}: {(made.stderr or made.stdout)[-1500:]}")
            unfinished.rename(data)
        (self.folder / "bootstrap.sql").write_text(BOOTSTRAP_SQL)

    def command(self) -> list[str | Path]:
        """Return the command line; small buffers, since the catalogue is small."""
        return [
            find(MARIADB),
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self._scratch}",
            "--socket=mariadb.sock",  # relative to the data folder: a socket's full path may have 108 bytes at most
            f"--pid-file={self._pid_file}",
            f"--bind-address={LOOPBACK}",
            f"--port={self.port}",
            f"--init-file={self.folder / 'bootstrap.sql'}",
            "--character-set-server=utf8mb4",
            "--innodb-buffer-pool-size=64M",
            "--skip-name-resolve",
            *_as_root(),
        ]

    def is_healthy(self) -> bool:
        """Return whether it has its port, after which it writes its pid file, and greets clients.

        The greeting names the authentication plugin.
        """
        has_port = self._pid_file.exists() and self._pid_file.read_text().strip() == str(self.pid)
        return has_port and answers(self.port, b"", b"mysql_native_password")

    @property
    def address(self) -> str:
        """The SQLAlchemy URL."""
        return f"mysql+asyncmy://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}/{DATABASE}?charset=utf8mb4"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "mariadb.pid"

    @property
    def _scratch(self) -> Path:
        # A starting server deletes temporary tables from its folder, those of another one too if they share it.
        return self.folder / "tmp"

    @property
    def _data(self) -> Path:
        return self.folder / "data"


def _as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []
