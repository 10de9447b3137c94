"""The local stack, on the real servers: what it starts, what it leaves alone, what it cleans up."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from infra import tools
from infra.child import Child
from infra.local import LocalStack
from infra.ports import LOOPBACK, free_port
from infra.processes import ProcessIdentity, is_running, wait_gone
from infra.redis_server import RedisServer
from infra.run_state import RunningServer, RunState
from libs.adapters.event_log import KafkaTopicAdmin
from libs.adapters.ports import TopicSpec
from libs.errors import RefusedStart

pytestmark = pytest.mark.stack

ELSEWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "broker.example:9092", "DATABASE_URL": "mysql+asyncmy://db.example/moard"}


@pytest.fixture
def redis_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a broker and a database elsewhere, so that a stack starts Redis alone."""
    for variable, value in ELSEWHERE.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def detached(tmp_path: Path, redis_only: None) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path / "stack", detached=True)
    yield stack
    stack.down()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[ProcessIdentity]:
    """A process that no stack may touch."""
    child = Child("stranger", tmp_path / "stranger.log")
    child.start(["sleep", "600"], os.environ, tmp_path)
    assert child.identity is not None
    yield child.identity
    child.kill()


HOLDER = """
import pathlib, sys, time
from infra.guard import guard
from infra.local import LocalStack
stack = LocalStack(pathlib.Path(sys.argv[1]))
stack.up()
print(guard()._process.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def holding(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a process that has a stack up and does nothing else; yields it and the pid of its guard."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            yield holder, int(holder.stdout.readline())
        finally:
            holder.kill()


def ping(url: str) -> bytes:
    with socket.create_connection((LOOPBACK, int(url.rsplit(":")[-1].split("/")[0])), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16)


async def create_table(database_url: str) -> str:
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE kept (name VARCHAR(40))"))
        await connection.execute(text("INSERT INTO kept VALUES ('ein Käfer 🐞')"))
        name = (await connection.execute(text("SELECT name FROM kept"))).scalar_one()
    await engine.dispose()
    return str(name)


async def read_table(database_url: str) -> str:
    engine = create_async_engine(database_url)
    async with engine.connect() as connection:
        name = (await connection.execute(text("SELECT name FROM kept"))).scalar_one()
    await engine.dispose()
    return str(name)


async def create_topic(bootstrap: str, name: str) -> None:
    admin = KafkaTopicAdmin(bootstrap)
    await admin.ensure([TopicSpec(name, 3)])
    await admin.close()


async def partitions(bootstrap: str, name: str) -> int:
    admin = KafkaTopicAdmin(bootstrap)
    count = await admin.partitions(name)
    await admin.close()
    return count


def test_killed_servers_come_back_on_their_ports_and_all_logs_lie_in_one_folder(
    fresh_stack: Callable[..., LocalStack],
) -> None:
    stack = fresh_stack(broker_profile="kill")
    addresses = stack.addresses
    asyncio.run(create_topic(addresses.kafka_bootstrap_servers, "kept"))
    assert asyncio.run(create_table(addresses.database_url)) == "ein Käfer 🐞"
    for server in (stack.kafka, stack.redis, stack.mariadb):
        before = server.pid
        server.kill()
        assert not server.running
        server.start()
        assert server.pid != before
    assert stack.addresses == addresses
    assert asyncio.run(partitions(addresses.kafka_bootstrap_servers, "kept")) == 3
    assert asyncio.run(read_table(addresses.database_url)) == "ein Käfer 🐞"
    assert ping(addresses.redis_url) == b"+PONG\r\n"
    assert {log.name for log in (stack.folder / "logs").iterdir()} == {"kafka.log", "redis.log", "mariadb.log"}

    stack.down()
    assert not any(server.running for server in (stack.kafka, stack.redis, stack.mariadb))
    assert stack.up() == addresses  # a second run finds its data at the addresses of the first
    assert asyncio.run(partitions(addresses.kafka_bootstrap_servers, "kept")) == 3


def test_without_a_database_server_the_catalogue_is_a_file(
    tmp_path: Path, redis_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with LocalStack(tmp_path / "stack", database=False) as stack:
        assert stack.addresses.database_url == f"sqlite+aiosqlite:///{tmp_path}/stack/moard.db"
        assert stack.servers == [stack.redis]


def test_addresses_in_the_environment_are_used_instead(tmp_path: Path, redis_only: None) -> None:
    with LocalStack(tmp_path / "stack") as stack:
        assert stack.servers == [stack.redis]
        assert not stack.kafka.running
        assert not stack.mariadb.running
        environment = stack.addresses.environment()
        assert environment == {**ELSEWHERE, "REDIS_URL": stack.redis.address}
        assert ping(environment["REDIS_URL"]) == b"+PONG\r\n"


def test_a_missing_program_is_named_and_nothing_stays_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", ELSEWHERE["KAFKA_BOOTSTRAP_SERVERS"])
    redis_folder = tmp_path / "bin"
    redis_folder.mkdir()
    (redis_folder / "redis-server").symlink_to(tools.find(tools.REDIS))
    monkeypatch.setattr(tools, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", str(redis_folder))
    stack = LocalStack(tmp_path / "stack")
    with pytest.raises(RefusedStart, match=r"mariadb-install-db is missing.*apt-get install"):
        stack.up()
    assert not stack.redis.running
    assert RunState(stack.folder).running() == {}


def test_a_stack_ends_with_the_process_that_has_it_even_by_kill_9(tmp_path: Path, redis_only: None) -> None:
    with holding(tmp_path / "stack") as (holder, _):
        redis = RunState(tmp_path / "stack").running()["redis"].identity
        with pytest.raises(RefusedStart, match=f"in use by process {holder.pid}"):
            LocalStack(tmp_path / "stack", detached=True).down()
        assert is_running(redis)
        holder.kill()
        assert wait_gone(redis, deadline_s=20)


def test_leftovers_of_a_killed_run_are_ended_by_the_next(tmp_path: Path, redis_only: None) -> None:
    with holding(tmp_path / "stack") as (holder, guard):
        left = RunState(tmp_path / "stack").running()["redis"].identity
        os.kill(guard, signal.SIGKILL)  # as when the whole session is killed
        holder.kill()
        holder.wait()
        assert is_running(left)
    with LocalStack(tmp_path / "stack") as stack:
        assert not is_running(left)
        assert ping(stack.addresses.redis_url) == b"+PONG\r\n"


def test_a_stranger_under_a_written_down_pid_is_not_touched(
    tmp_path: Path, redis_only: None, stranger: ProcessIdentity
) -> None:
    state = RunState(tmp_path / "stack")
    (tmp_path / "stack").mkdir()
    reused = ProcessIdentity(stranger.pid, "an earlier boot:1")
    state.record("redis", RunningServer(reused, (free_port(),)))
    with LocalStack(tmp_path / "stack"):
        assert is_running(stranger)
    LocalStack(tmp_path / "stack", detached=True).down()
    assert is_running(stranger)


def test_up_twice_is_up_once_and_down_needs_no_up_before_it(detached: LocalStack) -> None:
    addresses = detached.up()
    pid = detached.redis.pid
    again = LocalStack(detached.folder, detached=True)
    assert again.up() == addresses
    assert again.redis.pid == pid
    LocalStack(detached.folder, detached=True).down()
    assert not detached.redis.running


def test_a_stack_that_is_up_is_not_taken_over_by_a_passing_run(detached: LocalStack) -> None:
    detached.up()
    passing = LocalStack(detached.folder)
    with pytest.raises(RefusedStart, match="moard down"):
        passing.up()
    passing.down()
    assert detached.redis.running


def test_a_port_taken_since_the_last_run_is_left_to_whoever_has_it(tmp_path: Path, redis_only: None) -> None:
    with LocalStack(tmp_path / "stack") as stack:
        port = stack.redis.port
    with socket.create_server((LOOPBACK, port)), LocalStack(tmp_path / "stack") as stack:
        assert stack.redis.port != port
        assert ping(stack.addresses.redis_url) == b"+PONG\r\n"


def test_a_stranger_that_answers_on_our_port_does_not_pass_for_our_server(
    tmp_path: Path, redis_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a port and listening on it another Redis takes it: ours moves to a port of its own."""
    with LocalStack(tmp_path / "theirs") as theirs:
        ours = RedisServer(tmp_path / "ours" / "redis", RunState(tmp_path / "ours"))
        chosen = iter([theirs.redis.port, free_port()])
        monkeypatch.setattr("infra.server.free_port", lambda: next(chosen))
        ours.start()
        assert ours.port != theirs.redis.port
        assert ours.running
        ours.stop()


def test_a_paused_server_stands_still_until_it_is_resumed(tmp_path: Path, redis_only: None) -> None:
    with LocalStack(tmp_path / "stack") as stack:
        stack.redis.pause()
        assert not stack.redis.is_healthy()
        assert stack.redis.running
        stack.redis.resume()
        assert ping(stack.addresses.redis_url) == b"+PONG\r\n"
        stack.redis.pause()  # and a paused one does not keep the stack from ending
