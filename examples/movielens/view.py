"""The run on the screen: a live picture in a terminal, a line now and then anywhere else."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.movielens.readings import NOTHING_YET, Readings
from examples.scoreboard import FIFTHS, Scoreboard

_LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Everything that one picture shows."""

    elapsed_s: float
    scoreboard: Scoreboard
    now: Readings
    earlier: Readings
    brake: float
    stage: str


class View:
    """Shows frames; use as a context. Without a terminal it prints a line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_line_s = 0.0

    def __enter__(self) -> Callable[[Frame], None]:
        if self._live:
            self._live.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def _show(self, frame: Frame) -> None:
        if self._live:
            self._live.update(picture(frame), refresh=True)
        elif frame.elapsed_s >= self._next_line_s:
            self._next_line_s = frame.elapsed_s + _LINE_EVERY_S
            self._console.print(line(frame), highlight=False, soft_wrap=True)


def picture(frame: Frame) -> RenderableType:
    """Return one frame for a terminal."""
    board = frame.scoreboard
    bar = ProgressBar(total=board.requests, completed=board.answered, width=60)
    head = Text(f"{board.answered:,} of {board.requests:,} requests   {_clock(frame.elapsed_s)}   {frame.stage}")
    title = "moard · MovieLens-100K, live over HTTP and Kafka"
    return Panel(Group(head, bar, Text(), board.table(), Text(), _pipeline(frame)), title=title, expand=False)


def line(frame: Frame) -> str:
    """Return one frame as one line."""
    board, now = frame.scoreboard, frame.now
    fifth = min(len(FIFTHS) - 1, board.answered * len(FIFTHS) // max(1, board.requests))
    clicks = ", ".join(f"{ranker} {_number(values[fifth])}" for ranker, values in board.by_fifths().items())
    return (
        f"{_clock(frame.elapsed_s)} {frame.stage}: {board.answered:,}/{board.requests:,} requests, "
        f"{now.events_per_s(frame.earlier):,.0f} events/s, lag {now.lag_records:,}, {now.updates:,} updates, "
        f"loss {_number(now.loss, 3)}, snapshot {now.snapshot_version} ({_number(now.snapshot_age_s)} s old), "
        f"freshness p50 {_number(now.freshness_s(0.5))} s p95 {_number(now.freshness_s(0.95))} s; "
        f"clicks per request in the {FIFTHS[fifth].removesuffix(' fifth')} fifth: {clicks}"
    )


def _pipeline(frame: Frame) -> Table:
    now, earlier = frame.now, frame.earlier
    rate = 0.0 if earlier is NOTHING_YET else now.events_per_s(earlier)
    updates = 0.0 if earlier is NOTHING_YET else now.updates_per_s(earlier)
    braking = f"   (pace held back {frame.brake:.1f}×)" if frame.brake > 1.0 else ""
    rows = (
        ("events", f"{rate:,.0f} /s{braking}"),
        ("consumer lag", f"{now.lag_records:,} records"),
        ("updates", f"{now.updates:,}   {updates:,.0f} /s   loss {_number(now.loss, 3)}"),
        ("snapshot", f"{now.snapshot_version}   {_number(now.snapshot_age_s)} s old"),
        ("freshness", f"p50 {_number(now.freshness_s(0.5))} s   p95 {_number(now.freshness_s(0.95))} s"),
        ("stale history", f"{100 * now.stale_history:.2f} %"),
    )
    table = Table(box=None, show_header=False)
    table.add_column(min_width=20, style="dim")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _number(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
