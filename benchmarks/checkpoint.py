"""What a checkpoint costs: learning stopped, bytes written, restart, with 10 k, 100 k and 1 M rows in the buffer.

Every checkpoint follows upon the same number of new rows, so that its bytes would be the same if they depended on these
alone. Then amendments come to rows everywhere in the buffer, which is the worst for a journal over blocks.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from benchmarks.harness import Bench
from benchmarks.replay import CONTENTS, fill, new_row
from benchmarks.update_step import VECTOR_SIZE
from libs.adapters.ports import TopicPartition
from libs.adapters.telemetry import LearnerMetrics
from libs.rl.agent import Agent
from libs.rl.agent_state import BEGINNING
from libs.rl.replay import key_of
from libs.rl.settings import AgentSettings
from services.learner import checkpoint_files
from services.learner.attribution import Attribution
from services.learner.checkpoint import Checkpoints, Retention, part_of, rows_before
from services.learner.checkpoint_files import Manifest
from services.learner.settings import Settings

ROWS, SHORT_ROWS = (10_000, 100_000, 1_000_000), (2_000, 20_000)
NEW, SHORT_NEW = 10_000, 500
AMENDMENTS, SHORT_AMENDMENTS = 5_000_000, 20_000
_BETWEEN: Final = 50_000  # amendments from one checkpoint to the next: half a minute at 1,700 a second
ResultT = TypeVar("ResultT")
_EVENTS: Final = TopicPartition("moard.events", 0)


@dataclass(slots=True)
class Disk:
    """A learner's agent and the folder it is saved to, without the stream."""

    agent: Agent
    checkpoints: Checkpoints
    root: Path
    offset: int = 0

    async def save(self) -> tuple[float, float, int]:
        """Save once; return seconds in which training stands still, seconds of writing, and bytes written."""
        before = _sizes(self.root)
        stopped, state = _timed(lambda: self.agent.state(self.checkpoints.mark))
        self.offset += 1
        began = time.perf_counter()
        self.checkpoints.save(state, Attribution(Settings().join_rules()), {_EVENTS: self.offset})
        if not await self.checkpoints.finish():
            raise OSError(f"the disk under {self.root} refused the checkpoint")
        seconds = time.perf_counter() - began
        written = sum(size for name, size in _sizes(self.root).items() if name not in before)
        return stopped, seconds, written

    def restored(self) -> Agent:
        """Return the agent that the newest checkpoint holds."""
        manifest = checkpoint_files.newest_valid(self.root)
        assert manifest is not None
        state = part_of(checkpoint_files.read(self.root, manifest), "agent")
        return Agent.restore(self.agent.settings, *state, rows_before(self.root, manifest))


async def run(bench: Bench) -> None:
    """Record both parts."""
    torch.set_num_threads(1)
    for rows in SHORT_ROWS if bench.short else ROWS:
        with tempfile.TemporaryDirectory(prefix="moard-checkpoint-") as folder:
            disk = _filled(bench, rows, Path(folder))
            await _growing(bench, disk, rows)
            if rows == max(SHORT_ROWS if bench.short else ROWS):
                await _amended(bench, disk, rows)


def _filled(bench: Bench, rows: int, root: Path) -> Disk:
    rng = np.random.default_rng(bench.seed)
    agent = Agent(AgentSettings(capacity=rows), VECTOR_SIZE, bench.seed)
    for content_id in range(CONTENTS):
        agent.put_content(content_id, rng.normal(size=VECTOR_SIZE).astype(np.float32))
    fill(bench, agent.replay, rows, rng)
    agent.update()  # the optimiser's state is part of what is saved
    manifest = Manifest(1, 0, 0, "bench", {}, agent.settings.reward.version, {}, 0, 0, {}, ())
    checkpoints = Checkpoints(
        root,
        manifest,
        Retention(3, 0),
        interval_s=0,
        metrics=LearnerMetrics(CollectorRegistry(), []),
        clock_ms=lambda: time.time_ns() // 1_000_000,
        last_version=lambda: 0,
        committed=_nothing,
        mark=BEGINNING,
    )
    return Disk(agent, checkpoints, root)


async def _growing(bench: Bench, disk: Disk, rows: int) -> None:
    label, rounds = f"{rows:,} rows", 2 if bench.short else 8
    _, first_s, first_bytes = await disk.save()
    bench.record(label, "first checkpoint, written", first_bytes / 1e6, "MB")
    bench.record(label, "first checkpoint", first_s, "s")
    rng, new = np.random.default_rng(1), SHORT_NEW if bench.short else NEW
    made = [new_row(rng) for _ in range(50)]
    saves = []
    for turn in bench.progress(range(rounds), f"{label}: saving", rounds):
        for number in range(new):
            slot = disk.agent.replay.insert(key_of(f"new {turn} {number}"), made[number % 50])
            disk.agent.replay.consume(slot, int(made[number % 50].slate[0]), {"click": 1.0}, choice=True)
        saves.append(await disk.save())
    stopped, seconds, written = (list(of) for of in zip(*saves, strict=True))
    bench.record(label, f"{new:,} new rows: learning stopped, worst", 1e3 * max(stopped), "ms", rounds)
    bench.record(label, f"{new:,} new rows: written, mean", float(np.mean(written)) / 1e6, "MB", rounds)
    bench.record(label, f"{new:,} new rows: writing, mean", float(np.mean(seconds)), "s", rounds)
    took, agent = _timed(disk.restored)
    bench.record(label, "restored", took, "s", agent.rows)


async def _amended(bench: Bench, disk: Disk, rows: int) -> None:
    rng, total = np.random.default_rng(2), SHORT_AMENDMENTS if bench.short else AMENDMENTS
    between = min(_BETWEEN, total // 4)
    replay, stopped, written = disk.agent.replay, [], 0
    for _ in bench.progress(range(total // between), "amending", total // between):
        slots = rng.integers(rows, size=between)
        shown = replay.columns["slate"][slots, 1]
        for slot, content in zip(slots.tolist(), shown.tolist(), strict=True):
            replay.consume(slot, content, {"view": 0.5}, choice=False)
        stop, _, size = await disk.save()
        stopped.append(stop)
        written += size
    label = f"{total:,} amendments of {rows:,} rows"
    bench.record(label, "learning stopped, worst", 1e3 * max(stopped), "ms", len(stopped))
    bench.record(label, "written for each", written / total, "B", total)
    bench.record(label, "disk, three checkpoints", sum(_sizes(disk.root).values()) / 1e6, "MB")
    took, agent = _timed(disk.restored)
    bench.record(label, "restored", took, "s", agent.rows)


async def _nothing(_: Mapping[TopicPartition, int]) -> None:
    await asyncio.sleep(0)


def _sizes(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in root.rglob("*") if path.is_file()}


def _timed(call: Callable[[], ResultT]) -> tuple[float, ResultT]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result
