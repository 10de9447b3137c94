"""Everything around the run: the stack and the three services up, the run, a summary, everything down again."""

import asyncio
import contextlib
import secrets
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from examples.movielens import dataset, profile, protocol
from examples.movielens.dataset import Movie
from examples.movielens.live import Addresses, Live
from examples.movielens.pace import PaceSettings
from examples.movielens.player import user_name
from examples.movielens.protocol import Negatives, Turn
from examples.movielens.report import Report
from examples.movielens.summary import show_summary
from examples.movielens.view import View
from infra.local import LocalStack
from infra.migrations import upgrade
from infra.run_state import RunState
from infra.services import ServiceDied, ServiceName, ServiceProcess
from libs.errors import MoardError, RefusedStart
from libs.text.doc2vec import text_of, train
from services.ingest.settings import Settings as IngestSettings
from services.learner.settings import Settings as LearnerSettings
from services.serving.settings import Settings as ServingSettings

_SERVICES: tuple[ServiceName, ...] = ("learner", "ingest", "serving")
_READY_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``stay`` keeps everything up after the summary, until Ctrl-C."""

    folder: Path
    stay: bool
    requests: int | None
    negatives: Negatives
    seed: int
    pace: PaceSettings


def run(options: Options) -> int:
    """Run the whole demo; return 0, 1 when a part failed, 2 when it could not start, 130 at Ctrl-C before its end."""
    console, folder = Console(), options.folder.absolute()  # services run in a folder of their own
    try:
        with RunState(folder).owned(), _terminated_like_ctrl_c():
            _run(options, folder, console)
    except KeyboardInterrupt:
        return 130
    except (MoardError, ServiceDied) as error:
        stderr = Console(stderr=True)
        stderr.print(f"The demo failed. {error}", style="red", soft_wrap=True, highlight=False, markup=False)
        return 2 if isinstance(error, RefusedStart) else 1
    return 0


@contextlib.contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    def end(*_: object) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # inherited in the background of a script
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(options: Options, folder: Path, console: Console) -> None:
    movielens = dataset.load()
    turns = first(protocol.turns(movielens.ratings, options.negatives, options.seed), options.requests)
    with _undisturbed_end(console) as running:
        services = _start(folder, movielens.contents, running, console)
        addresses = Addresses(**{name: services[name].url for name in _SERVICES})
        run = secrets.token_hex(2)
        with View(console) as show:
            live = Live(addresses, turns, options.pace, show, lambda: _alive(services), run)
            report = _play(live, movielens.contents)
        user = user_name(run, turns[0].user_id)
        show_summary(console, report, report.write(), addresses, folder, user)
        if options.stay:
            console.print("\nEverything stays up until Ctrl-C.")
            _stay(services)


@contextlib.contextmanager
def _undisturbed_end(console: Console) -> Iterator[ExitStack]:
    """Yield a stack of things to stop; a second Ctrl-C does not interrupt their stopping."""
    running = ExitStack()
    try:
        yield running
    finally:
        console.print("\nStopping what was started …")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            running.close()
        finally:
            signal.signal(signal.SIGINT, before)


def first(turns: list[Turn], requests: int | None) -> list[Turn]:
    """Return the turns of the first so many requests."""
    return turns if requests is None else [turn for turn in turns if turn.request_number < requests]


def _start(
    folder: Path, contents: Sequence[Movie], running: ExitStack, console: Console
) -> dict[ServiceName, ServiceProcess]:
    _clear(folder)
    stack = LocalStack(folder / "stack")
    outside = stack.up(partial(console.print, highlight=False, soft_wrap=True))
    running.callback(stack.down)
    upgrade(outside.database_url)
    console.print("training Doc2Vec on titles, years and genres …")
    texts = ((movie.content_id, text_of(movie.title, movie.description)) for movie in contents)
    train(texts).save(folder / "doc2vec")
    console.print(f"profile {profile.NAME}, what differs from the defaults:")
    for line in profile.lines(IngestSettings, LearnerSettings, ServingSettings):
        console.print(line, highlight=False, soft_wrap=True)
    environment = {
        **outside.environment(),
        **profile.environment(),
        "MOARD_DOC2VEC_PATH": str(folder / "doc2vec"),
        "MOARD_STATE_PATH": str(folder / "state"),
        "MOARD_LEARNER_CHECKPOINT_PATH": str(folder / "checkpoints"),
    }
    services = {name: ServiceProcess(name, environment, folder) for name in _SERVICES}
    for service in services.values():
        running.callback(service.stop)
        service.start()
    for name, service in services.items():
        service.wait_ready(_READY_DEADLINE_S)
        console.print(f"{name} is ready at {service.url}", highlight=False)
    return services


def _clear(folder: Path) -> None:
    """Remove what an earlier run left: each starts from nothing, so that runs compare."""
    for state in ("stack", "state", "checkpoints", "doc2vec"):
        shutil.rmtree(folder / state, ignore_errors=True)
    for log in folder.glob("*.log"):
        log.unlink()


def _play(live: Live, contents: Sequence[Movie]) -> Report:
    try:
        return asyncio.run(live.play(contents))
    except ExceptionGroup as failures:
        raise _first_of(failures) from failures


def _stay(services: Mapping[ServiceName, ServiceProcess]) -> None:
    """Return at Ctrl-C; raises when a service dies meanwhile."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            _alive(services)
            time.sleep(1.0)


def _first_of(failures: ExceptionGroup[Exception]) -> Exception:
    first = failures.exceptions[0]
    return _first_of(first) if isinstance(first, ExceptionGroup) else first


def _alive(services: Mapping[ServiceName, ServiceProcess]) -> None:
    for service in services.values():
        if not service.running:
            raise ServiceDied(f"{service.name} ended with {service.exit_code()}. {service.log_tail()}")
