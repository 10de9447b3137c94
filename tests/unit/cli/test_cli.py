"""The ``moard`` command as a person types it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import Addresses
from infra.run_state import RunState

Moard = Callable[..., subprocess.CompletedProcess[str]]
NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "mysql+asyncmy://moard:moard@127.0.0.1:1/moard"}


@pytest.fixture
def moard(tmp_path: Path) -> Moard:
    """Run the command in an empty folder, away from any ``.env``."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.cli", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def up(moard: Moard) -> Iterator[Moard]:
    yield moard
    moard("down")


def test_help_names_every_command(moard: Moard) -> None:
    said = moard("--help").stdout
    commands = (
        "up",
        "down",
        "status",
        "topics",
        "migrate",
        "demo",
        "quickstart",
        "keys",
        "checkpoint",
        "doc2vec",
        "dlq",
    )
    assert all(command in said for command in commands)


def test_a_bad_setting_is_refused_by_its_name_without_a_traceback(moard: Moard) -> None:
    done = moard("topics", MOARD_EVENTS_PARTITIONS="0")
    assert done.returncode == 2
    assert "MOARD_EVENTS_PARTITIONS: Input should be greater than 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "what"), [("topics", "the broker did not answer"), ("migrate", "the database could not be migrated")]
)
def test_a_server_that_is_away_is_a_message_and_not_a_traceback(moard: Moard, command: str, what: str) -> None:
    done = moard(command, **NOWHERE)
    assert done.returncode == 1
    assert what in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_creates_the_embedded_catalogue_and_may_be_repeated(moard: Moard, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/catalogue/moard.db"
    for _ in range(2):
        assert moard("migrate", DATABASE_URL=url).returncode == 0
    assert (tmp_path / "catalogue/moard.db").stat().st_size > 0


class TestKeys:
    def test_a_key_is_printed_once_and_kept_nowhere(self, moard: Moard, tmp_path: Path) -> None:
        made = moard("keys", "create", "--name", "[b]backend", "--scopes", "rank, ingest", "--expires-days", "30")
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        number = key.split("_")[1]
        assert number in made.stderr
        assert key not in made.stderr
        secret = key.split("_", 2)[2].encode()
        assert not any(secret in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        listed = moard("keys", "list").stdout
        assert number in listed
        assert "[b]backend" in listed
        assert key not in listed

    def test_programs_get_json(self, moard: Moard) -> None:
        assert json.loads(moard("keys", "list", "--json").stdout) == []
        made = json.loads(moard("keys", "create", "--name", "a", "--scopes", "admin", "--json").stdout)
        assert made["key"].startswith(f"moard_{made['id']}_")
        assert moard("keys", "revoke", made["id"]).returncode == 0
        (found,) = json.loads(moard("keys", "list", "--json").stdout)
        assert (found["scopes"], found["state"]) == (["admin"], "revoked")
        assert "key" not in found

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("create", "--name", "a", "--scopes", "root"), "root"),
            (("create", "--name", "", "--scopes", "rank"), "--name"),
            (("create", "--name", "a", "--scopes", "rank", "--expires-days", "0"), "--expires-days"),
            (("revoke", "absent"), "absent"),
        ],
    )
    def test_mistakes_are_named(self, moard: Moard, arguments: tuple[str, ...], says: str) -> None:
        done = moard("keys", *arguments)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_database_that_is_away_is_a_message(self, moard: Moard) -> None:
        done = moard("keys", "list", **NOWHERE)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_with_nothing_running_status_says_how_to_start(moard: Moard) -> None:
    assert moard("status").stdout.strip() == "Nothing runs. Start it with: moard up"
    assert moard("down").returncode == 0


@pytest.mark.stack
def test_up_prints_settings_that_can_be_kept_and_leaves_servers_running_until_down(up: Moard, tmp_path: Path) -> None:
    first = up("up", "--servers-only", **NOWHERE)
    assert first.returncode == 0, first.stderr
    redis = RunState(tmp_path / ".moard/stack").running()["redis"]
    assert first.stdout.splitlines() == [
        f"KAFKA_BOOTSTRAP_SERVERS={NOWHERE['KAFKA_BOOTSTRAP_SERVERS']}",
        f"REDIS_URL=redis://127.0.0.1:{redis.ports[0]}/0",
        f"DATABASE_URL={NOWHERE['DATABASE_URL']}",
    ]
    again = up("up", "--servers-only", **NOWHERE)
    assert again.stdout == first.stdout
    assert "redis runs already" in again.stderr
    assert str(redis.identity.pid) in up("status").stdout
    assert up("down").returncode == 0
    assert RunState(tmp_path / ".moard/stack").running() == {}


@pytest.mark.stack
def test_topics_are_created_once_and_never_repartitioned(moard: Moard, stack: Addresses) -> None:
    environment = stack.environment()
    first = moard("topics", **environment)
    assert first.returncode == 0, first.stderr
    assert "moard.events: 4 partition(s)" in first.stdout
    assert moard("topics", **environment).returncode == 0
    other = moard("topics", MOARD_EVENTS_PARTITIONS="5", **environment)
    assert other.returncode == 2
    assert "moard.events" in other.stderr
