"""``moard rebuild``: the past learned again, bit for bit the same, into a line of its own."""

import asyncio
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from typer.testing import CliRunner

from libs.adapters.memory import MemoryLog, MemoryModelStore, MemoryPartitionReader, MemorySnapshotStore
from libs.adapters.ports import Outgoing, Record, TopicPartition
from libs.errors import RefusedStart
from libs.events.schema import Event
from libs.events.topics import CONTENTS, EVENTS
from libs.rl.snapshot import decode
from services.cli.__main__ import app
from services.cli.evaluation_input import Bound, Range
from services.cli.evaluation_target import read_snapshot
from services.cli.export_reader import ExportReader
from services.cli.rebuild_line import publish, require_free, write
from services.cli.rebuild_plan import Plan
from services.cli.rebuild_run import Rebuilt, Source, learned, learning_settings, planned, taken
from services.learner import checkpoint_files
from services.learner.ledger import read_ledger
from services.learner.settings import Settings
from tests.builders import NOW_MS, content, impression, interaction
from tests.unit.cli import test_events
from tests.unit.cli.test_events import silent
from tests.unit.learner.stand import Stand

PARTITIONS = 3
SETTINGS: dict[str, Any] = {
    "events_partitions": PARTITIONS,
    "vector_size": 4,
    "learner_batch_size": 8,
    "learner_round_records": 24,
    "learner_learning_starts": 10,
    "learner_replay_ratio": 2.0,
    "learner_capacity": 1_000,
    "learner_checkpoint_interval_s": 0.01,
    "learner_idle_poll_ms": 5,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    """A past of 120 requests, a second apart, and a catalogue that was put a day later."""
    now_ms = [NOW_MS]
    rng = np.random.default_rng(3)
    stand = Stand(tmp_path / "nobody", MemoryLog(lambda: now_ms[0]), **SETTINGS)
    for number in range(120):
        now_ms[0] = NOW_MS + 1_000 * number
        user_id, slate = f"user-{rng.integers(9)}", tuple(int(each) for each in rng.permutation(12)[:4] + 1)
        events: list[Event | bytes] = [
            impression(user_id, slate, event_id=f"i{number}", timestamp_ms=None),
            interaction(user_id, slate[0], event_id=f"c{number}", impression_id=f"i{number}", timestamp_ms=None),
        ]
        stand.append(*events, *([b"not json"] if number % 50 == 0 else []))
    now_ms[0] += 86_400_000
    for content_id in range(1, 13):
        stand.append(content(content_id, embedding=tuple(rng.normal(size=4).tolist())))
    return stand.log


def source(log: MemoryLog, reader: MemoryPartitionReader | None = None, catalogue: bool = True) -> Source:
    return Source(
        reader or MemoryPartitionReader(log, "test"),
        MemoryPartitionReader(log, "test") if catalogue else None,
        log.cluster_id,
        PARTITIONS,
    )


async def plan(
    found: Source,
    folder: Path,
    wanted: Range = Range(),  # noqa: B008
    seed: int = 0,
    asked: tuple[str, str] = ("", ""),
    **settings: Any,
) -> tuple[Plan, Settings]:
    own = learning_settings(Settings(**(SETTINGS | settings)), folder, "again", seed, found)
    return await planned(folder, own, found, wanted, asked), own


async def rebuilt(found: Source, folder: Path, wanted: Range = Range(), seed: int = 0, **settings: Any) -> Rebuilt:  # noqa: B008
    made, own = await plan(found, folder, wanted, seed, **settings)
    unusable = await learned(made, own, found, silent())
    assert unusable is not None
    return taken(folder, own, unusable)


async def test_the_same_range_and_seed_give_the_same_weights_bit_for_bit(log: MemoryLog, tmp_path: Path) -> None:
    one = await rebuilt(source(log), tmp_path / "one")
    two = await rebuilt(source(log), tmp_path / "two", learner_max_poll_records=7)
    other = await rebuilt(source(log), tmp_path / "other", seed=1)

    assert one.weights == two.weights
    assert one.weights != other.weights
    assert one.manifest.step == 120 * 2 // 8  # every row of the range, the last short round included
    assert (one.rows, one.unusable) == (120, 3)
    assert one.manifest.offsets == {
        f"{tp.topic}:{tp.partition}": log.partition(tp).end
        for tp in [TopicPartition(EVENTS, number) for number in range(PARTITIONS)] + [TopicPartition(CONTENTS, 0)]
    }
    ledger = read_ledger(tmp_path / "one")
    assert sorted(ledger) == sorted([f"{kind}{number}" for kind in "ic" for number in range(120)])


async def test_nothing_else_of_the_log_is_learned(log: MemoryLog, tmp_path: Path) -> None:
    wanted = Range(Bound(at_ms=NOW_MS + 20_000), Bound(at_ms=NOW_MS + 60_000))
    await rebuilt(source(log), tmp_path / "part", wanted)
    ledger = read_ledger(tmp_path / "part")
    assert sorted(ledger) == sorted([f"{kind}{number}" for kind in "ic" for number in range(20, 60)])
    assert len(log.records("moard.events.dlq")) == 0
    assert log.group("test").committed == {}


async def test_contents_are_known_before_the_first_event(log: MemoryLog, tmp_path: Path) -> None:
    found = await rebuilt(source(log), tmp_path / "with")
    blind = await rebuilt(source(log, catalogue=False), tmp_path / "without")
    assert found.weights != blind.weights

    now_ms = NOW_MS
    early = MemoryLog(lambda: now_ms)
    stand = Stand(tmp_path / "nobody", early, **SETTINGS)
    for record in log.records(CONTENTS):
        early.append(Outgoing(record.topic, record.key, record.value))
    for record in sorted(log.records(EVENTS), key=lambda each: (each.append_ms, each.partition, each.offset)):
        now_ms = record.append_ms
        stand.log.append(Outgoing(record.topic, record.key, record.value, partition=record.partition))
    assert (await rebuilt(source(early), tmp_path / "early")).weights == found.weights


class StoppingReader(MemoryPartitionReader):
    """Lets the process be asked to end after some records."""

    def __init__(self, log: MemoryLog, after: int, kill: bool) -> None:
        super().__init__(log, "test")
        self._left = after
        self._kill = kill

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        found = await super().poll(min(10, max_records), timeout_ms)
        self._left -= len(found)
        if self._left <= 0 and self._kill:
            raise MemoryError
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGTERM)
            self._left = 10**9
            await asyncio.sleep(0.01)
        return found


async def test_interruptions_change_nothing(log: MemoryLog, tmp_path: Path) -> None:
    steady = await rebuilt(source(log), tmp_path / "steady")
    folder = tmp_path / "interrupted"
    for records in (60, 150):
        stopping = source(log, StoppingReader(log, records, kill=False))
        made, own = await plan(stopping, folder)
        assert await learned(made, own, stopping, silent()) is None
    killed = source(log, StoppingReader(log, 30, kill=True))
    made, own = await plan(killed, folder)
    with pytest.raises(MemoryError):
        await learned(made, own, killed, silent())
    newest = checkpoint_files.newest_valid(folder)
    assert newest is not None
    assert 0 < sum(newest.positions().values()) < sum(steady.manifest.positions().values())

    log.append(Outgoing(EVENTS, b"user-1", b"later than the range"))
    finished = await rebuilt(source(log), folder)
    assert finished.weights == steady.weights
    assert sorted(read_ledger(folder)) == sorted(read_ledger(tmp_path / "steady"))
    assert (await rebuilt(source(log), folder)).weights == steady.weights  # and once more, when all is learned


async def test_an_export_gives_the_weights_of_the_range_it_was_made_of(log: MemoryLog, tmp_path: Path) -> None:
    stand = test_events.Stand()
    stand.log, path = log, tmp_path / "events.jsonl.gz"
    await stand.export(path)
    reader = ExportReader(path, Range())
    reader.look()
    of_file = Source(reader, MemoryPartitionReader(log, "test"), reader.sha256, len(reader.spans))

    ours = await rebuilt(of_file, tmp_path / "file")
    theirs = await rebuilt(source(log), tmp_path / "topic")
    # Records that cannot be decoded are not in an export, and rounds are counted in records.
    assert sorted(read_ledger(tmp_path / "file")) == sorted(read_ledger(tmp_path / "topic"))
    assert (ours.rows, ours.manifest.step) == (theirs.rows, theirs.manifest.step)
    again = Source(reader, MemoryPartitionReader(log, "test"), reader.sha256, len(reader.spans))
    assert (await rebuilt(again, tmp_path / "again")).weights == ours.weights


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json", "line 2: not JSON"),
        (
            b'{"type": "interaction", "event_id": "e", "user_id": "u", "kind": "click", "content_id": 1}',
            "line 2: does not",
        ),
        (
            b'{"partition": 0, "offset": 3, "append_ms": 1, "event": '
            b'{"type": "interaction", "user_id": "u", "kind": "click", "content_id": 1}}',
            "offset 3 of partition 0 comes behind 5",
        ),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_its_line(line: bytes, told: str, tmp_path: Path) -> None:
    first = (
        b'{"partition": 0, "offset": 5, "append_ms": 1, "event": '
        b'{"type": "interaction", "user_id": "u", "kind": "click", "content_id": 1}}'
    )
    (tmp_path / "events.jsonl").write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(RefusedStart, match=told):
        ExportReader(tmp_path / "events.jsonl", Range()).look()


async def test_a_folder_of_another_rebuild_is_refused(log: MemoryLog, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    await plan(source(log), folder)
    for changed, told in (
        ({"seed": 1}, "--seed is 1, was 0"),
        ({"asked": ("0:5", "")}, "--from is '0:5', was ''"),
        ({"learner_gamma": 0.5}, "MOARD_LEARNER_GAMMA is 0.5"),
        ({"found": replace(source(log), identity="another")}, "the log is another, was memory"),
    ):
        arguments: dict[str, Any] = {"found": source(log)} | changed
        with pytest.raises(RefusedStart, match=told):
            await plan(folder=folder, **arguments)
    await plan(source(log), folder, learner_queue_changes=5)  # changes no weight

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(RefusedStart, match="holds something else"):
        await plan(source(log), tmp_path / "other")


async def test_too_little_to_learn_from_is_said(log: MemoryLog, tmp_path: Path) -> None:
    few = Range(end=Bound(at_ms=NOW_MS + 3_000))
    with pytest.raises(RefusedStart, match="too few impressions"):
        await rebuilt(source(log), tmp_path / "few", few)


async def test_the_line_is_published_kept_and_written_once(log: MemoryLog, tmp_path: Path) -> None:
    line, models, folder = MemorySnapshotStore(), MemoryModelStore(), tmp_path / "again"
    made, own = await plan(source(log), folder)
    await require_free("again", made, line, models)
    result = await rebuilt(source(log), folder)

    there = await publish(result, made, line, models)
    assert await publish(result, made, line, models) == there
    await require_free("again", made, line, models)

    meta = there.meta
    assert await line.load(meta.version) == (meta, there.blob)
    assert await line.current() == meta
    assert (meta.offsets, meta.step) == (result.manifest.offsets, result.manifest.step)
    kept, blob = await models.load("again")
    assert (kept.version, kept.sha256, blob) == (meta.version, meta.sha256, there.blob)
    decode(blob, kept.sha256, own.vector_size)
    loaded = read_snapshot(await write(there, folder), own.vector_size)
    assert loaded.meta is not None
    assert replace(loaded.meta, trained=()) == meta
    assert [change.subject for change in await models.changes(10)] == ["again"]

    emptied = MemorySnapshotStore()  # Redis lost everything
    assert (await publish(result, made, emptied, models)).meta.version == meta.version

    other, _ = await plan(source(log), tmp_path / "other", seed=1)
    with pytest.raises(RefusedStart, match="Redis has a model line of this name"):
        await require_free("again", other, line, models)
    with pytest.raises(RefusedStart, match="is kept under this name"):
        await require_free("again", other, MemorySnapshotStore(), models)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "latest"], "names that moard gives"),
        (["--model", "../live"], "names that moard gives"),
        (["--model", "moard"], "is the live model line"),
        (["--model", "again", "--folder", ".moard/checkpoints"], "is the live learner's"),
        (["--model", "again", "--from", "soon"], "--from soon"),
        (["--model", "again", "--file", "gone.jsonl", "--without-contents"], "there is no such file"),
    ],
)
def test_what_would_touch_the_live_line_is_refused(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    refused = CliRunner().invoke(app, ["rebuild", *arguments]).exception
    assert isinstance(refused, RefusedStart)
    assert told in str(refused)


def test_a_file_alone_is_rebuilt_without_any_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def export() -> None:
        await test_events.filled(60).export(tmp_path / "events.jsonl")

    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("MOARD_LEARNER_LEARNING_STARTS", "10"),
        ("MOARD_LEARNER_BATCH_SIZE", "8"),
        ("MOARD_LEARNER_CAPACITY", "1000"),
        ("MOARD_LEARNER_REPLAY_RATIO", "2"),
        ("OMP_NUM_THREADS", "1"),
        ("OPENBLAS_NUM_THREADS", "1"),
        ("MKL_NUM_THREADS", "1"),
    ):
        monkeypatch.setenv(name, value)
    asyncio.run(export())
    told = []
    for model in ("one", "two"):
        arguments = ["--model", model, "--file", "events.jsonl", "--without-contents", "--only-file"]
        done = CliRunner().invoke(app, ["rebuild", *arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        told.append(done.stdout)
    assert "120 events learned, 0 of them cannot be decoded." in told[0]
    assert "moard evaluate --policy snapshot --snapshot .moard/rebuilds/one/rebuilt.snapshot" in told[0]
    weights = [line.rpartition(" ")[2] for out in told for line in out.splitlines() if "weights" in line]
    assert len(weights) == 2
    assert weights[0] == weights[1]
    assert orjson.loads((tmp_path / ".moard/rebuilds/one/rebuild.json").read_bytes())["model"] == "one"
