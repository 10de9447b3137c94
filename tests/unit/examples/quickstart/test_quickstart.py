"""The quickstart as a person runs it: the three real services in this process, and rankings that get better."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from examples.quickstart import __main__ as quickstart
from examples.quickstart import world
from examples.quickstart.house import VECTOR_SIZE, House, opened
from examples.quickstart.play import play
from examples.quickstart.world import Visitor, World
from examples.scoreboard import Scoreboard


async def test_rankings_get_better_than_chance_and_come_from_snapshots(tmp_path: Path) -> None:
    generated = world.generate(contents=80, users=20, requests=500, vector_size=VECTOR_SIZE, seed=0)
    before, after = generated.visitors[:400], generated.visitors[400:]

    async with opened(tmp_path) as house:
        await _played(generated, before, house)
        await _until_learned(house)
        clicks = await _played(generated, after, house)
        shown = await house.rank("user-0", [content.content_id for content in generated.contents], world.SLATE)

    assert shown.snapshot_version > 0
    assert len(set(shown.content_ids)) == world.SLATE
    # A full click more: the learner was waited for.
    assert clicks > np.mean(world.random_clicks(after)) + 0.4


async def _played(generated: World, visitors: Sequence[Visitor], house: House) -> float:
    scoreboard = Scoreboard({"random": world.random_clicks(visitors)})
    numbered = [replace(visitor, number=number) for number, visitor in enumerate(visitors)]
    await play(replace(generated, visitors=tuple(numbered)), house, scoreboard, Console(file=io.StringIO()))
    return float(np.mean(scoreboard.by_fifths()["moard"]))


async def _until_learned(house: House) -> None:
    """Wait until what ranks has taken fifteen updates: how many fit beside the requests is the machine's affair."""
    async with asyncio.timeout(120):
        while house.snapshot_step < 15:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0.01)


def test_it_runs_from_the_command_line_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert quickstart.main(["--requests", "60"]) == 0

    printed = capsys.readouterr().out
    assert "60 requests in" in printed
    assert "make demo" in printed
    assert list(tmp_path.iterdir()) == []
