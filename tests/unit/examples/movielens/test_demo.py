"""How the demo ends when it cannot go on: with a status, a message that helps, and nothing left running."""

import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from examples.movielens import dataset, demo
from examples.movielens.__main__ import main
from examples.movielens.dataset import DataUnavailable, Movie, MovieLens, Ratings
from examples.movielens.demo import Options
from examples.movielens.pace import PaceSettings
from infra.run_state import RunState
from libs.errors import MoardError, RefusedStart

RATINGS = Ratings(
    user_ids=np.array([1, 2]),
    content_ids=np.array([1, 2]),
    ratings=np.array([5, 4], dtype=np.float32),
    timestamps_s=np.array([0, 1]),
)
WORLD = MovieLens((Movie(1, "A", "1997", ("Drama",)), Movie(2, "A", "1997", ("Drama",))), RATINGS)


class Outside:
    """A stack that starts, and remembers that it was stopped."""

    kafka_bootstrap_servers = redis_url = database_url = "nowhere"
    stopped = 0

    def __init__(self, folder: Path) -> None:
        pass

    def up(self, progress: Any) -> "Outside":
        return self

    def down(self) -> None:
        Outside.stopped += 1

    def environment(self) -> dict[str, str]:
        return {}


class Dying:
    """A service that ends as soon as it has become ready."""

    stopped: list[str] = []  # noqa: RUF012

    def __init__(self, name: str, environment: dict[str, str], folder: Path) -> None:
        self.name, self.url, self.running = name, "http://127.0.0.1:9", name != "learner"

    def start(self) -> None:
        pass

    def wait_ready(self, timeout_s: float) -> None:
        pass

    def stop(self) -> None:
        Dying.stopped.append(self.name)

    def exit_code(self) -> int:
        return 3

    def log_tail(self) -> str:
        return "the last words of the learner"


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr(dataset, "load", lambda: WORLD)
    monkeypatch.setattr(demo, "LocalStack", Outside)
    monkeypatch.setattr(demo, "ServiceProcess", Dying)
    monkeypatch.setattr(demo, "upgrade", lambda url: None)
    monkeypatch.setattr(Outside, "stopped", 0)
    Dying.stopped.clear()
    return Options(tmp_path / "demo", stay=False, requests=None, negatives="popularity", seed=0, pace=PaceSettings())


def test_without_the_data_it_points_to_the_quickstart(
    options: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> NoReturn:
        raise DataUnavailable("no index; `make quickstart` needs none")

    monkeypatch.setattr(dataset, "load", refuse)

    assert demo.run(options) == 2
    assert "make quickstart" in capsys.readouterr().err
    assert Outside.stopped == 0


def test_a_service_that_dies_fails_it_with_the_end_of_its_log(
    options: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(options) == 1

    assert "the last words of the learner" in capsys.readouterr().err
    assert Dying.stopped == ["serving", "ingest", "learner"]
    assert Outside.stopped == 1


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (RefusedStart("java is missing"), 2), (MoardError("gone"), 1)]
)
def test_whatever_stops_it_what_was_started_is_stopped(
    options: Options, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def fail(url: str) -> NoReturn:
        raise error

    monkeypatch.setattr(demo, "upgrade", fail)

    assert demo.run(options) == status
    assert Outside.stopped == 1


def test_a_second_demo_in_the_same_folder_is_refused(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    with RunState(options.folder).owned():
        assert demo.run(options) == 2

    assert "in use" in capsys.readouterr().err


def test_it_leaves_the_handling_of_signals_as_it_was(options: Options) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    demo.run(options)

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_each_run_starts_from_nothing(options: Options) -> None:
    left = [options.folder / name for name in ("learner.log", "checkpoints/0001", "state/serving/last")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the run before")

    demo.run(options)

    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("argument", ["--requests=0", "--rate=0", "--in-flight=-1", "--rate=nan", "--requests=many"])
def test_an_impossible_argument_is_named(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([argument])

    assert end.value.code == 2
    assert argument.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("interrupts", [signal.default_int_handler, signal.SIG_IGN])
def test_it_can_be_terminated_also_where_interrupts_are_ignored(interrupts: Any) -> None:
    before = signal.signal(signal.SIGINT, interrupts)
    try:
        with pytest.raises(KeyboardInterrupt), demo._terminated_like_ctrl_c():
            _terminate()
    finally:
        signal.signal(signal.SIGINT, before)


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # the signal ends this
