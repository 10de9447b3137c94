"""The quickstart as a person runs it: the three real services in this process, and rankings that get better."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from examples.quickstart import __main__ as quickstart
from examples.quickstart import world
from examples.quickstart.house import VECTOR_SIZE, opened
from examples.quickstart.play import play
from examples.scoreboard import Scoreboard


async def test_rankings_get_better_than_chance_and_come_from_snapshots(tmp_path: Path) -> None:
    generated = world.generate(contents=80, users=20, requests=500, vector_size=VECTOR_SIZE, seed=0)
    random = world.random_clicks(generated.visitors)
    scoreboard = Scoreboard({"random": random})

    async with opened(tmp_path) as house:
        await play(generated, house, scoreboard, Console(file=io.StringIO()))
        shown = await house.rank("user-0", [content.content_id for content in generated.contents], world.SLATE)
        assert house.updates > 0

    assert shown.snapshot_version > 0
    assert len(set(shown.content_ids)) == world.SLATE
    fifths = scoreboard.by_fifths()
    # A full click more on an idle machine; on a busy one fewer updates fit into the same second.
    assert fifths["moard"][-1] > fifths["random"][-1] + 0.15


def test_it_runs_from_the_command_line_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert quickstart.main(["--requests", "60"]) == 0

    printed = capsys.readouterr().out
    assert "60 requests in" in printed
    assert "make demo" in printed
    assert list(tmp_path.iterdir()) == []
