"""``schedule="log"``: the same log and seed give the same weights, bit for bit, whatever happened on the way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from libs.adapters.memory import MemoryLog, MemoryPartitionReader
from libs.adapters.ports import Record, TopicPartition
from libs.events.schema import Event
from libs.events.topics import CONTENTS, EVENTS
from services.learner import checkpoint_files, log_watch
from services.learner.checkpoint_files import Manifest
from tests.builders import NOW_MS, content, erasure, impression, interaction
from tests.unit.learner.stand import Stand, eventually

ROUND = 24
SETTINGS: dict[str, Any] = {
    "learner_schedule": "log",
    "learner_round_records": ROUND,
    "learner_batch_size": 8,
    "learner_replay_ratio": 2.0,
    "learner_learning_starts": 10,
    "learner_snapshot_interval_s": 0.01,
    "learner_checkpoint_interval_s": 0.01,
    "learner_checkpoints_kept": 1_000,
    "events_partitions": 3,
}

State = tuple[dict[str, np.ndarray], dict[str, Any]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(log_watch, "_ASK_EVERY_S", 0.01)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ScrambledReader(MemoryPartitionReader):
    """Returns portions of any size of any partitions, as a broker's answers come."""

    def __init__(self, log: MemoryLog, seed: int) -> None:
        super().__init__(log, "moard-learner")
        self._rng = np.random.default_rng(seed)

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        paused = set(self._cursor.paused)
        self._cursor.paused |= {tp for tp in self._cursor.positions if self._rng.random() < 0.5}
        size = min(max_records, int(self._rng.integers(1, 90)))
        found = self._cursor.take(size)
        self._cursor.paused = paused
        return found or await super().poll(size, timeout_ms)


class LogStand(Stand):
    """Learners with a folder of their own on a log that is there already."""

    def __init__(self, folder: Path, log: MemoryLog, **settings: Any) -> None:
        super().__init__(folder, log, **(SETTINGS | settings))
        self.records = sum(log.partition(tp).end for tp in self.partitions())
        self.seed = 0

    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(EVENTS, number) for number in range(3)] + [TopicPartition(CONTENTS, 0)]

    def reader(self) -> MemoryPartitionReader:
        self.seed += 1
        return ScrambledReader(self.log, self.seed)

    async def learn_all(self, **settings: Any) -> None:
        """Learn until every whole round of the log is in, and save."""
        async with self.learner(**settings).running():
            await self.read(self.records // ROUND * ROUND)

    async def crash_after(self, records: int, **settings: Any) -> None:
        """Learn until so many records are in and a further checkpoint is there, unless it holds all, and be gone."""
        before = checkpoint_files.newest_valid(self.folder)
        learner = self.learner(**settings)
        await learner.start()
        task = asyncio.ensure_future(learner.run())
        try:
            await self.read(records)
            await eventually(lambda: self._saved_more(before), "a further checkpoint")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _saved_more(self, than: Manifest | None) -> bool:
        names = checkpoint_files.names(self.folder)
        if not names or (than is not None and names[0] == than.name):
            return than is not None and sum(than.positions().values()) >= self.records // ROUND * ROUND
        return True

    def states(self) -> dict[str, State]:
        """Return every state that was saved, by what had been read; the last entry is the newest."""
        found = {}
        for name in reversed(checkpoint_files.names(self.folder)):
            manifest = checkpoint_files.verify(self.folder, name)
            found[str(sorted(manifest.offsets.items()))] = checkpoint_files.read(self.folder, manifest)
        return found


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    """A log of the past: users who come back, some after hours, and everything that goes wrong in between."""
    now_ms = [NOW_MS]
    rng = np.random.default_rng(5)
    stand = Stand(tmp_path / "nobody", MemoryLog(lambda: now_ms[0]), **SETTINGS)
    for number in range(300):
        now_ms[0] += int(rng.choice([0, 0, 1, 800, 30_000, 1_900_000], p=[0.3, 0.2, 0.2, 0.2, 0.09, 0.01]))
        user_id, slate = f"user-{rng.integers(9)}", tuple(int(each) for each in rng.permutation(12)[:4] + 1)
        many = tuple(range(1_000 + 12 * number, 1_000 + 12 * number + 12))  # tables have to grow on the way
        events: list[Event] = [
            impression(user_id, slate, event_id=f"i{number}", candidates=slate + many, timestamp_ms=None),
            interaction(user_id, slate[0], event_id=f"c{number}", impression_id=f"i{number}", timestamp_ms=None),
            interaction(user_id, slate[-1], "like", event_id=f"l{number}", timestamp_ms=None),
        ]
        order = rng.permutation(3)[: rng.integers(1, 4)]
        stand.append(*[events[at] for at in order], *events[: rng.integers(2)])
        if number % 10 == 0:
            stand.append(content(int(rng.integers(1, 13)), embedding=tuple(rng.normal(size=4).tolist())))
        if number % 90 == 80:
            stand.append(erasure(user_id, event_id=f"e{number}"))
        if number % 40 == 0:
            stand.append(b"not json")
    return stand.log


def assert_equal(ours: State, theirs: State) -> None:
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    for name, array in ours[0].items():
        np.testing.assert_array_equal(array, theirs[0][name], err_msg=name)


def assert_same_lineage(ours: LogStand, theirs: LogStand) -> int:
    """Compare every state that both saved at the same place of the log, and return how many there were."""
    mine, yours = ours.states(), theirs.states()
    assert list(mine)[-1] == list(yours)[-1]
    shared = mine.keys() & yours.keys()
    for place in shared:
        assert_equal(mine[place], yours[place])
    return len(shared)


async def test_however_records_are_fetched_the_weights_are_the_same(log: MemoryLog, tmp_path: Path) -> None:
    whole = LogStand(tmp_path / "whole", log)
    pieces = LogStand(tmp_path / "pieces", log, learner_max_poll_records=7, learner_snapshot_interval_s=0.003)
    pieces.seed = 100

    await whole.learn_all()
    await pieces.learn_all()

    assert assert_same_lineage(whole, pieces) > 0
    _, values = list(whole.states().values())[-1]
    rows, samples = values["agent"]["replay"]["inserted"], values["agent"]["samples"]
    assert values["agent"]["updates"] == samples // 8 == 2 * rows // 8 > 50
    assert len(log.records("moard.events.dlq")) == 2 * 8


async def test_crashes_change_nothing(log: MemoryLog, tmp_path: Path) -> None:
    steady, crashing = LogStand(tmp_path / "steady", log), LogStand(tmp_path / "crashing", log)
    await steady.learn_all()
    resumed: list[int] = []
    for records in (1, 150, 300, 450, 600):
        await crashing.crash_after(min(records, crashing.records // ROUND * ROUND))
        newest = checkpoint_files.newest_valid(crashing.folder)
        resumed.append(sum(newest.positions().values()) if newest else 0)
    await crashing.learn_all()

    assert assert_same_lineage(steady, crashing) > 0
    assert len(set(resumed) - {0}) >= 2  # it did go on from checkpoints in between
    assert all(records % ROUND == 0 for records in resumed)


async def test_another_seed_gives_other_weights(log: MemoryLog, tmp_path: Path) -> None:
    one, other = LogStand(tmp_path / "one", log), LogStand(tmp_path / "other", log, learner_seed=1)
    await one.learn_all()
    await other.learn_all()

    ours, theirs = (list(each.states().values())[-1][0]["agent/network.rank_bias"] for each in (one, other))
    assert not np.array_equal(ours, theirs)
