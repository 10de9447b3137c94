"""How far readers are behind, over the in-memory log."""

import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console
from typer.testing import CliRunner

from libs.adapters.memory import MemoryLog, MemoryPartitionReader
from libs.adapters.ports import Outgoing, TopicPartition, TopicSpec
from libs.events.topics import EVENTS
from services.cli import lag
from services.cli.__main__ import app
from services.cli.lag import Behind, behind, table_of

EVENTS_0, EVENTS_1 = TopicPartition(EVENTS, 0), TopicPartition(EVENTS, 1)


class Clock:
    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


def stand() -> tuple[MemoryLog, Clock]:
    clock = Clock()
    log = MemoryLog(clock)
    log.create(TopicSpec(EVENTS, 2))
    for _ in range(5):
        clock.now_ms += 1_000
        log.append(Outgoing(EVENTS, b"k", b"{}", partition=0))
    return log, clock


async def test_lag_is_what_was_not_committed_and_the_age_of_its_oldest_record() -> None:
    log, clock = stand()
    reader = MemoryPartitionReader(log, "lag")

    found = await behind(reader, {"learner": {EVENTS_0: 3, EVENTS_1: 0}}, clock.now_ms + 500)

    assert found == [Behind("learner", EVENTS, 0, 5, 3, 2, 1.5), Behind("learner", EVENTS, 1, 0, 0, 0, 0.0)]


async def test_who_never_committed_has_everything_before_it() -> None:
    log, clock = stand()
    reader = MemoryPartitionReader(log, "lag")

    groups: dict[str, dict[TopicPartition, int | None]] = {"learner": {EVENTS_0: None}, "projector": {EVENTS_0: 5}}
    found = await behind(reader, groups, clock.now_ms)

    assert found == [Behind("learner", EVENTS, 0, 5, None, 5, 4.0), Behind("projector", EVENTS, 0, 5, 5, 0, 0.0)]
    assert table_of(found).row_count == 2


async def test_without_topics_there_is_nothing_to_say() -> None:
    assert await behind(MemoryPartitionReader(MemoryLog(), "lag"), {"learner": {}}, 0) == []


def test_watching_shows_it_anew_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    asked: list[int] = []

    async def ask() -> list[Behind]:
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append(7 + len(asked))
        return [Behind("learner", EVENTS, 0, 100, 90, asked[-1], 1.5)]

    @asynccontextmanager
    async def asking() -> AsyncIterator[Callable[[], Awaitable[list[Behind]]]]:
        yield ask

    monkeypatch.setattr(lag, "asking", asking)
    monkeypatch.setattr(lag, "console", Console(file=shown, force_terminal=True, width=120))
    monkeypatch.setattr(lag, "_EVERY_S", 0.0)

    done = CliRunner().invoke(app, ["lag", "--watch"])

    assert done.exit_code == 0
    assert asked == [7, 8, 9, 10]
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.getvalue())
    lags = [int(line.split()[5]) for line in re.split(r"[\r\n]+", plain) if "learner" in line]
    assert list(dict.fromkeys(lags)) == asked
