"""What a person and a program read at the end, from one hand-made run."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from examples.movielens.protocol import Request, Turn, baselines
from examples.movielens.readings import NOTHING_YET, Page, Readings
from examples.movielens.report import report
from examples.movielens.view import Frame, View, picture
from examples.scoreboard import Scoreboard

INGEST = '# TYPE moard_ingest_events counter\nmoard_ingest_events_total{result="accepted"} 12\n'
LEARNER = "# TYPE moard_learner_updates counter\nmoard_learner_updates_total 34\n"
SERVING = "# TYPE moard_serving_snapshot_version gauge\nmoard_serving_snapshot_version 1.79e+12\n"


@pytest.fixture
def board() -> Scoreboard:
    """Ten requests: each offers one liked content among two, and twelve strangers before it."""
    turns = [Turn(user, 10, 0, user, Request(user, user, (10, 11), (*range(20, 32), 10, 11))) for user in range(10)]
    board = Scoreboard(baselines(turns))
    for number in range(9):
        board.record(number, number % 3)
    return board


@pytest.fixture
def now() -> Readings:
    return Readings(4.0, Page(INGEST), Page(LEARNER), Page(SERVING))


def test_rankers_are_compared_on_the_answered_requests_of_each_fifth(board: Scoreboard) -> None:
    fifths = board.by_fifths()

    assert fifths["moard"] == [0.5, 1.0, 1.5, 0.5, 2.0]  # the tenth request is not answered yet
    assert fifths["random"] == [pytest.approx(12 / 14)] * 5
    assert fifths["popularity"] == [0.5, 1.0, 1.0, 1.0, 1.0]  # the first request comes before any like


def test_a_fifth_without_answers_is_not_a_zero() -> None:
    empty = Scoreboard(baselines([Turn(1, 10, 0, 0, Request(0, 1, (10,), (10, 11)))]))

    assert all(math.isnan(clicks) for fifths in empty.by_fifths().values() for clicks in fifths)


def test_the_report_has_the_agreed_keys(board: Scoreboard, now: Readings, tmp_path: Path) -> None:
    written = json.loads(report(board, now, 61.23).write(tmp_path / "out/report.json").read_text())

    assert written["requests"] == 9
    assert written["interactions"] == 12
    assert written["duration_s"] == 61.2
    assert written["clicks_per_request"] == {"moard": 2.0, "popularity": 1.0, "random": 0.857}
    assert written["freshness_s"] == {"p50": None, "p95": None}
    assert written["updates"] == 34
    assert written["snapshot_version"] == 1_790_000_000_000
    assert {"lag_records", "stale_history"} <= written.keys()


def test_the_picture_shows_every_promised_figure(board: Scoreboard, now: Readings) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(Frame(61.0, board, now, NOTHING_YET, 2.0, "playing")))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    for shown in ("9 of 10 requests", "1:01", "events", "consumer lag", "updates", "loss", "snapshot", "1790000000000"):
        assert shown in text
    for shown in ("freshness", "p95", "popularity so far", "random", "last", "2.00", "held back 2.0×", "stale history"):
        assert shown in text


def test_without_a_terminal_it_is_a_plain_line_now_and_then(board: Scoreboard, now: Readings) -> None:
    file = io.StringIO()
    with View(Console(file=file, width=80)) as show:
        for elapsed_s in (0.0, 1.0, 4.9, 5.0, 6.0):
            show(Frame(elapsed_s, board, now, NOTHING_YET, 1.0, "playing"))

    lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0:00", "0:05"]
    assert "moard 2.00" in lines[0]
    assert "\x1b" not in file.getvalue()
