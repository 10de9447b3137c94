"""What ``moard status`` makes of what services say of themselves."""

import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from libs.adapters import status_board
from libs.adapters.status import MemoryStatusBoard
from services.cli import status
from services.cli.__main__ import app

WELL = {"state": "ok", "waiting_for": [], "alarms": []}
COMMON: dict[str, Any] = {"version": "0.1.0", "at_ms": 120_000, "started_ms": 0, "settings": {}, "health": WELL}
LEARNER = COMMON | {
    "service": "learner",
    "instance": "a:1",
    "lag": {"records": 12.0, "seconds": 0.5, "read_per_s": 1.0, "drain_s": None},
    "updates": 3.0,
    "replay_rows": 40.0,
    "snapshot": {"version": 17.0},
    "checkpoint": {"age_s": 4.0},
}
SERVING = COMMON | {
    "service": "serving",
    "instance": "a:2/0",
    "snapshot": {"version": 17.0, "age_s": 1.5, "pin": "[b]good", "pinned_version": 17.0},
    "freshness": {"bounds_s": [0.5, 1.0, 2.0], "counts": [60.0, 94.0, 100.0, 100.0], "sum_s": 9.0},
    "rankings_per_s": None,
}
INGEST = COMMON | {
    "service": "ingest",
    "instance": "a:3",
    "events_per_s": {"accepted": 9.5},
    "buffer_records": 0.0,
    "projector": {"partitions": [{"lag_records": 2.0}, {"lag_records": None}]},
}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStatusBoard:
    found = MemoryStatusBoard()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status, "console", Console(width=220))
    monkeypatch.setattr(status_board, "RedisStatusBoard", lambda url: found)
    return found


def put(board: MemoryStatusBoard, *statuses: dict[str, Any]) -> None:
    for each in statuses:
        asyncio.run(board.put(each["service"], each["instance"], orjson.dumps(each)))


def test_every_service_is_shown_with_what_it_does_and_how_fresh_rankings_are(board: MemoryStatusBoard) -> None:
    put(board, LEARNER, SERVING, INGEST)
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0, done.output
    for said in ("lag 12 records", "snapshot 17", "pinned as [b]good", "projector lag 2 records", "2 min"):
        assert said in done.stdout
    assert "p50 within 0.50 s, p95 within 2.00 s" in done.stdout


def test_a_complaint_is_shown_with_its_remedy_and_in_the_exit_code(board: MemoryStatusBoard) -> None:
    alarm = {"alarm": "divergence", "remedy": "lower the rate"}
    put(board, LEARNER | {"health": WELL | {"state": "failing", "alarms": [alarm]}})
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 1
    assert "divergence: lower the rate" in done.stdout


def test_programs_get_everything(board: MemoryStatusBoard) -> None:
    put(board, SERVING)
    told = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert told["services"][0]["instance"] == "a:2/0"
    assert told["freshness_s"] == {"p50": 0.5, "p95": 2.0}
    assert (told["stack"], told["redis"]) == ({}, "ok")
