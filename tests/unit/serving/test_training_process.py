"""Who has training tasks worked on in another process, and that process with nothing but an embedded database."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import CapturingLogger

from infra.migrations import upgrade
from libs.adapters.memory import MemoryLegacyLog, MemoryLog, MemoryProducer, MemorySnapshotStore, MemoryTaskStore
from libs.adapters.task_store import SqlTaskStore
from libs.adapters.training_ports import Cursor, Lease, TrainingTask
from libs.errors import StoreUnavailable
from services.serving import training_lookout, training_process, training_run
from services.serving.settings import Settings
from services.serving.training_process import TrainingProcess
from tests.unit.serving.world import until

TASK = TrainingTask("a", created_ms=1_000, batch_size=10)
NOTES_OWNER = "import sys, pathlib; pathlib.Path('{file}').write_text(sys.argv[1])"
WAITS_FOR_ITS_END = "import os, sys, pathlib; pathlib.Path('{file}').write_text(str(os.getpid())); sys.stdin.read()"
IS_DEAF = "import os, time, pathlib; pathlib.Path('{file}').write_text(str(os.getpid())); time.sleep(600)"
FAILS = "import sys; sys.exit(3)"


@pytest.fixture
def tasks() -> MemoryTaskStore:
    return MemoryTaskStore()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What the other process writes."""
    return tmp_path / "written"


def process(tasks: MemoryTaskStore, script: str, file: Path, patience_s: float = 600.0) -> TrainingProcess:
    return TrainingProcess(tasks, patience_s, (sys.executable, "-c", script.format(file=file)))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what names the events logged so far, at whatever level tests before this one configured."""
    logger = CapturingLogger()
    monkeypatch.setattr(training_process, "log", logger)
    return lambda: [call.args[0] for call in logger.calls]


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training_process, "time", clock)
    monkeypatch.setattr(training_process, "_AGAIN_S", 0.0)
    return clock


def written(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_without_a_task_nothing_is_started(tasks: MemoryTaskStore, file: Path) -> None:
    assert not await process(tasks, NOTES_OWNER, file).turn()
    assert (written(file), tasks.lease.owner) == ("", "")


async def test_while_another_holds_the_lease_nothing_is_started(tasks: MemoryTaskStore, file: Path) -> None:
    await tasks.add(TASK)
    tasks.lease = Lease("another", 2**60)
    assert not await process(tasks, NOTES_OWNER, file).turn()
    assert not written(file)


async def test_the_lease_is_handed_over_by_its_name(tasks: MemoryTaskStore, file: Path) -> None:
    await tasks.add(TASK)
    assert await process(tasks, NOTES_OWNER, file).turn()
    assert written(file) == tasks.lease.owner != ""


async def test_a_task_whose_process_dies_again_and_again_has_failed(
    tasks: MemoryTaskStore, file: Path, clock: Clock
) -> None:
    await tasks.add(replace(TASK, state="{}"))
    trainer = process(tasks, FAILS, file, patience_s=60.0)
    for _ in range(3):
        assert await trainer.turn()
        assert await tasks.get("a") == replace(TASK, state="{}")
        clock.now_s += 20.0
    tasks.lease = replace(tasks.lease, cursor=Cursor(7, 7))  # it had streamed something before it died
    clock.now_s += 20.0
    assert await trainer.turn()
    assert (await tasks.get("a")) == replace(TASK, state="{}")
    clock.now_s += 61.0
    assert await trainer.turn()
    failed = await tasks.get("a")
    assert failed is not None
    assert (failed.status, failed.state, failed.ended_ms is None) == ("failed", "", False)
    assert "status 3" in str(failed.error)
    assert tasks.lease.cursor == Cursor(7, 7)
    assert not await trainer.turn()


async def test_one_that_cannot_be_started_is_tried_again(tasks: MemoryTaskStore, file: Path, clock: Clock) -> None:
    await tasks.add(TASK)
    trainer = TrainingProcess(tasks, 60.0, (str(file),))
    assert await trainer.turn()
    assert await tasks.get("a") == TASK
    clock.now_s += 61.0
    assert await trainer.turn()
    failed = await tasks.get("a")
    assert failed is not None
    assert "status 127" in str(failed.error)


@asynccontextmanager
async def working(trainer: TrainingProcess, file: Path) -> AsyncIterator[int]:
    """Have it start; give the process's id; cancel and wait at the end."""
    turn = asyncio.create_task(trainer.turn())
    await until(lambda: written(file))
    yield int(written(file))
    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)


async def test_it_stops_with_serving(tasks: MemoryTaskStore, file: Path, logged: Callable[[], list[str]]) -> None:
    await tasks.add(TASK)
    async with working(process(tasks, WAITS_FOR_ITS_END, file), file) as pid:
        assert running(pid)
    assert not running(pid)
    assert logged() == ["training.process_started"]  # and not that it had to be killed


async def test_one_that_does_not_listen_is_killed(
    tasks: MemoryTaskStore, file: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(training_process, "_GRACE_S", 0.05)
    await tasks.add(TASK)
    async with working(process(tasks, IS_DEAF, file), file) as pid:
        assert running(pid)
    assert not running(pid)
    assert logged() == ["training.process_started", "training.process_killed"]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_store_that_is_away_is_no_end_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_lookout, "POLL_S", 0.0)
    answers: list[bool | Exception] = [True, StoreUnavailable("away"), True, False, True]

    async def turn() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await training_lookout.until_none_is_left(turn)
    assert answers == [True]


async def test_told_to_stop_while_it_gives_the_lease_back_it_gives_it_back(
    tasks: MemoryTaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin, line = os.pipe()
    give_back, asked = tasks.release, []

    async def release(owner: str) -> None:
        asked.append(owner)
        if len(asked) == 1:
            os.close(line)
            await asyncio.sleep(600)
        await give_back(owner)

    monkeypatch.setattr(tasks, "release", release)
    twins = {
        "SqlTaskStore": tasks,
        "SqlLegacyLog": MemoryLegacyLog(),
        "KafkaProducer": MemoryProducer(MemoryLog()),
        "RedisSnapshotStore": MemorySnapshotStore(),
    }
    for name, twin in twins.items():
        monkeypatch.setattr(training_run, name, lambda *_, twin=twin: twin)
    await tasks.add(TASK)
    with os.fdopen(stdin) as inherited:
        monkeypatch.setattr(sys, "stdin", inherited)
        await training_run.work(Settings(state_path=str(tmp_path), _env_file=None), "me")
    assert (asked, tasks.lease.owner) == (["me", "me"], "")


class TestTheProcess:
    """``python -m services.serving.training`` on an embedded database; nothing else answers."""

    @pytest.fixture
    def url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        url = f"sqlite+aiosqlite:///{tmp_path}/moard.db"
        upgrade(url)
        for name, value in {
            "DATABASE_URL": url,
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "REDIS_URL": "redis://127.0.0.1:9/0",
        }.items():
            monkeypatch.setenv(name, value)
        return url

    @pytest.fixture
    async def store(self, url: str) -> AsyncIterator[SqlTaskStore]:
        store = SqlTaskStore(url)
        yield store
        await store.close()

    async def test_it_works_until_none_is_left_and_gives_the_lease_back(self, store: SqlTaskStore) -> None:
        for number in range(2):
            await store.add(replace(TASK, task_id=f"task-{number}"))
        assert await TrainingProcess(store, 600.0).turn()
        for task in await store.newest(10):
            assert (task.status, task.message) == ("completed", "0 interactions learned")
        assert await store.claim("another", 1, 2) == Cursor()

    async def test_asked_to_stop_it_leaves_the_task_to_others(
        self, store: SqlTaskStore, logged: Callable[[], list[str]]
    ) -> None:
        await store.add(replace(TASK, save_model=True))  # waits for Redis
        turn = asyncio.create_task(TrainingProcess(store, 600.0).turn())
        async with asyncio.timeout(30):
            while not (task := await store.get("a")) or not task.state:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        assert logged() == ["training.process_started"]
        task = await store.get("a")
        assert task is not None
        assert task.status == "processing"
        assert await store.claim("another", 1, 2) == Cursor()
