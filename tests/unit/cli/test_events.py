"""Events out of a log, into a file, and back: whole, once, at their time."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from libs.adapters.log_range import Span
from libs.adapters.memory import MemoryLog, MemoryPartitionReader, MemoryProducer
from libs.adapters.ports import Outgoing, Record, TopicPartition, TopicSpec
from libs.errors import RefusedStart, StoreUnavailable
from libs.events.codec import decode_event, encode
from libs.events.event_time import event_time_ms
from libs.events.schema import Erasure, Event
from libs.events.topics import EVENTS, Origin, event_id_of, partition_of, user_key
from services.cli import event_export, event_lines
from services.cli.__main__ import app
from services.cli.evaluation_input import Bound, Range
from services.cli.event_export import ExportFile, Progressed
from services.cli.event_import import Imported, KnownIds, import_lines
from services.cli.range_reader import spans_of
from tests.builders import NOW_MS, impression, interaction

PARTITIONS = 3
DAY_MS = 86_400_000


class Stand:
    """A log whose clock the test moves."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self.now_ms = NOW_MS
        self.log = MemoryLog(clock_ms=lambda: self.now_ms)
        self.partitions = partitions
        self.log.create(TopicSpec(EVENTS, partitions))

    def append(self, *events: Event | bytes, user_id: str = "somebody") -> None:
        for event in events:
            key = user_id if isinstance(event, bytes) else event.user_id
            value = event if isinstance(event, bytes) else encode(event)
            self.log.append(Outgoing(EVENTS, user_key(key), value))
            self.now_ms += 1_000

    def reader(self) -> MemoryPartitionReader:
        return MemoryPartitionReader(self.log, "test")

    async def export(self, path: Path, wanted: Range = Range(), asked: tuple[str, str] = ("", "")) -> Progressed:  # noqa: B008
        sink = ExportFile(path)
        state = sink.begun("memory", asked)
        if state is None:
            spans = await spans_of(self.reader(), self.tps, wanted)
            state = Progressed("memory", asked, tuple(spans.values()), tuple(span.start for span in spans.values()))
        return await event_export.export(self.reader(), state, sink, silent())

    async def import_(self, path: Path, producer: MemoryProducer | None = None) -> Imported:
        known = KnownIds()
        await known.read(self.reader(), self.partitions, silent())
        with event_lines.opened(path) as lines:
            return await import_lines(
                event_lines.lines_of(lines), known, producer or MemoryProducer(self.log), silent(), None
            )

    def events(self) -> list[tuple[Event, int]]:
        """Return the events with the time at which they happened."""
        found = []
        for record in self.log.records(EVENTS):
            event = decode_event(record.value, Origin(EVENTS, record.partition, record.offset))
            assert not isinstance(event, Erasure)
            found.append((event, event_time_ms(event.timestamp_ms, event.source, record.append_ms)[0]))
        return found

    def ids(self) -> list[str]:
        return [event.event_id for event, _ in self.events()]

    @property
    def tps(self) -> list[TopicPartition]:
        return [TopicPartition(EVENTS, number) for number in range(self.partitions)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def silent() -> Progress:
    return Progress(console=Console(file=io.StringIO()))


def filled(users: int = 40) -> Stand:
    stand = Stand()
    for number in range(users):
        shown = impression(f"user-{number % 12}", event_id=f"i{number}", timestamp_ms=None)
        stand.append(shown, interaction(shown.user_id, 1, event_id=f"c{number}", impression_id=shown.event_id))
    return stand


async def test_an_export_is_in_the_order_of_the_log_and_always_the_same(tmp_path: Path) -> None:
    stand = filled()
    done = await stand.export(tmp_path / "one.jsonl")
    await stand.export(tmp_path / "two.jsonl")
    await stand.export(tmp_path / "packed.jsonl.gz")

    written = (tmp_path / "one.jsonl").read_bytes()
    lines = [orjson.loads(line) for line in written.splitlines()]
    assert (done.lines, done.unusable, len(lines)) == (80, 0, 80)
    assert [line["append_ms"] for line in lines] == sorted(line["append_ms"] for line in lines)
    at = {(record.partition, record.offset): record.value for record in stand.log.records(EVENTS)}
    assert {(line["partition"], line["offset"]) for line in lines} == at.keys()
    assert all(orjson.loads(at[line["partition"], line["offset"]] or b"") == line["event"] for line in lines)
    assert (tmp_path / "two.jsonl").read_bytes() == written
    assert gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes()) == written
    assert names(tmp_path) == ["one.jsonl", "packed.jsonl.gz", "two.jsonl"]


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [
        (None, None, range(80)),
        (NOW_MS + 10_000, NOW_MS + 30_000, range(10, 30)),
        (NOW_MS + 500, None, range(1, 80)),
        (None, NOW_MS + 79_001, range(80)),
    ],
)
async def test_a_range_of_time_is_what_was_appended_in_it(
    start: int | None, end: int | None, numbers: range, tmp_path: Path
) -> None:
    await filled().export(tmp_path / "part.jsonl", Range(Bound(at_ms=start), Bound(at_ms=end)))
    lines = [orjson.loads(line) for line in (tmp_path / "part.jsonl").read_bytes().splitlines()]
    assert [(line["append_ms"] - NOW_MS) // 1_000 for line in lines] == list(numbers)


async def test_a_range_of_offsets_is_each_partition_s_own(tmp_path: Path) -> None:
    await filled().export(tmp_path / "part.jsonl", Range(Bound.parse("0:2,1:3", ""), Bound.parse("0:4,1:3,2:1", "")))
    lines = [orjson.loads(line) for line in (tmp_path / "part.jsonl").read_bytes().splitlines()]
    assert sorted((line["partition"], line["offset"]) for line in lines) == [(0, 2), (0, 3), (2, 0)]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Range(Bound.parse("0:9999", "")), "--from 0:9999: partition 0 of moard.events holds 0 to"),
        (Range(end=Bound.parse("1:9999", "")), "--to 1:9999: partition 1 of moard.events holds 0 to"),
        (Range(Bound.parse("7:0", "")), "--from 7:…: there is no such partition; the last is 2"),
        (Range(Bound(at_ms=NOW_MS + DAY_MS)), "nothing lies between --from and --to; the log holds 0:0-"),
    ],
)
async def test_a_range_that_the_log_does_not_hold_is_refused(wanted: Range, told: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedStart, match=told):
        await filled().export(tmp_path / "none.jsonl", wanted)


async def test_what_retention_took_is_not_jumped_over(tmp_path: Path) -> None:
    stand = filled()
    stand.log.truncate(TopicPartition(EVENTS, 0), 4)
    with pytest.raises(RefusedStart, match=r"partition 0 of .* holds 4 to"):
        await stand.export(tmp_path / "none.jsonl", Range(Bound.parse("0:2", "")))


class DyingReader(MemoryPartitionReader):
    """Ends the process, as it were, after some records."""

    def __init__(self, log: MemoryLog, left: int) -> None:
        super().__init__(log, "test")
        self._left = left

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        if self._left <= 0:
            raise KeyboardInterrupt
        found = await super().poll(5, timeout_ms)
        self._left -= len(found)
        return found


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
async def test_an_interrupted_export_goes_on_where_it_stopped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_export, "CHUNK", 8)
    stand, path = filled(), tmp_path / name
    await stand.export(tmp_path / f"whole-{name}")
    monkeypatch.setattr(stand, "reader", lambda: DyingReader(stand.log, 40))
    with pytest.raises(KeyboardInterrupt):
        await stand.export(path)
    with (tmp_path / f"{name}.part").open("ab") as part:
        part.write(b"half a chunk that was being written")
    assert not path.exists()
    monkeypatch.undo()

    stand.append(interaction("user-1"))  # the end of the range is that of the first run
    with pytest.raises(RefusedStart, match="interrupted export from the beginning to the end"):
        await stand.export(path, asked=("", "2030-01-01"))
    done = await stand.export(path)

    assert done.lines == 80
    with event_lines.opened(path) as ours, event_lines.opened(tmp_path / f"whole-{name}") as whole:
        assert ours.read() == whole.read()
    with pytest.raises(RefusedStart, match="is there already"):
        await stand.export(path)


async def test_what_cannot_be_decoded_is_left_out_and_said(tmp_path: Path) -> None:
    stand = Stand()
    stand.append(interaction(event_id="good"), b"not json", b'{"type": "interaction"}')
    done = await stand.export(tmp_path / "events.jsonl")
    assert (done.lines, done.unusable) == (1, 2)
    assert [reason.partition(": ")[0][:14] for reason in done.reasons] == ["moard.events:0"] * 2 or all(
        reason.startswith("moard.events:") for reason in done.reasons
    )
    assert any("not JSON" in reason for reason in done.reasons)


async def test_an_import_keeps_ids_times_users_and_unknown_fields(tmp_path: Path) -> None:
    source = Stand()
    own_id = orjson.dumps({"type": "interaction", "user_id": "user-1", "kind": "click", "content_id": 3, "novel": [1]})
    source.append(own_id, user_id="user-1")
    source.append(
        interaction("user-2", event_id="old", timestamp_ms=1, source="backfill"),
        interaction("user-3", event_id="stale", timestamp_ms=NOW_MS - 3 * DAY_MS),
        interaction("user-4", event_id="future", timestamp_ms=NOW_MS + DAY_MS),
        impression("user-5", event_id="shown", timestamp_ms=None),
    )
    await source.export(tmp_path / "events.jsonl")
    target = Stand(partitions=5)
    target.now_ms = NOW_MS + 300 * DAY_MS

    done = await target.import_(tmp_path / "events.jsonl")

    assert (done.appended, done.known, done.refused) == (5, 0, 0)
    place = next(record for record in source.log.records(EVENTS) if b"novel" in (record.value or b""))
    assert event_id_of(Origin(EVENTS, place.partition, place.offset)) in target.ids()
    times = {event.event_id: at_ms for event, at_ms in source.events()}
    assert {event.event_id: at_ms for event, at_ms in target.events()} == times
    assert times["stale"] == NOW_MS + 2_000 - DAY_MS
    assert {event.source for event, _ in target.events()} == {"backfill"}
    assert all(
        record.partition == partition_of(record.key or b"", 5)
        and record.key == user_key(decode_event(record.value).user_id)
        for record in target.log.records(EVENTS)
    )
    assert any(orjson.loads(record.value or b"").get("novel") == [1] for record in target.log.records(EVENTS))


async def test_importing_what_is_there_appends_nothing(tmp_path: Path) -> None:
    stand = filled()
    stand.append(b'{"type": "interaction", "user_id": "somebody", "kind": "click", "content_id": 3}')
    await stand.export(tmp_path / "events.jsonl")
    records = stand.log.records(EVENTS)

    again = await stand.import_(tmp_path / "events.jsonl")

    assert (again.appended, again.known) == (0, 81)
    assert stand.log.records(EVENTS) == records

    stand.log.truncate(TopicPartition(EVENTS, 0), 4)  # retention took some
    ids = sorted(event.event_id for event, _ in stand.events())
    back = await stand.import_(tmp_path / "events.jsonl")
    assert (back.appended, back.known) == (4, 77)
    assert len(stand.ids()) == len(set(stand.ids())) == len(ids) + 4


class DyingProducer(MemoryProducer):
    """Takes some, and then no more."""

    def __init__(self, log: MemoryLog, calls: int) -> None:
        super().__init__(log)
        self._calls = calls

    async def append(self, records: Sequence[Outgoing], timeout_s: float) -> list[bool]:
        self._calls -= 1
        if self._calls < 0:
            await super().append(records[: len(records) // 2], timeout_s)  # taken, and the answer was lost
            raise KeyboardInterrupt
        return await super().append(records, timeout_s)


async def test_an_interrupted_import_appends_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.event_import.BATCH", 10)
    source, target = filled(), Stand()
    await source.export(tmp_path / "events.jsonl")
    with pytest.raises(KeyboardInterrupt):
        await target.import_(tmp_path / "events.jsonl", DyingProducer(target.log, 3))
    done = await target.import_(tmp_path / "events.jsonl")
    assert (done.known, done.appended) == (35, 45)
    assert sorted(target.ids()) == sorted(source.ids())


async def test_a_broker_that_does_not_take_them_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    source, target = filled(), Stand()
    await source.export(tmp_path / "events.jsonl")
    monkeypatch.setattr("services.cli.event_import.asyncio.sleep", at_once)
    monkeypatch.setattr(target.log, "append", lambda _: False)
    with pytest.raises(StoreUnavailable, match="did not take 80 of 80 events; the same command goes on"):
        await target.import_(tmp_path / "events.jsonl")


async def test_lines_that_cannot_be_used_are_named_and_the_others_are_imported(tmp_path: Path) -> None:
    click: dict[str, Any] = {"type": "interaction", "user_id": "u", "kind": "click", "content_id": 1}
    lines = [
        orjson.dumps(click | {"event_id": "bare"}),
        orjson.dumps(click),
        b"",
        b"not json",
        b"[1]",
        orjson.dumps({"partition": -1, "offset": 0, "append_ms": 5, "event": click}),
        orjson.dumps({"partition": 0, "offset": 0, "append_ms": 5, "event": click | {"kind": "stare"}}),
        b'{"event": {"user_id": "' + b"x" * 300_000 + b'"}}',
        orjson.dumps({"partition": 0, "offset": 7, "event": click}),
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines))
    stand = Stand()
    done = await stand.import_(tmp_path / "events.jsonl")
    assert sorted(stand.ids()) == sorted(["bare", event_id_of(Origin(EVENTS, 0, 7))])
    assert (done.appended, done.refused) == (2, 6)
    told = dict(reason.split(": ", 1) for reason in done.reasons)
    assert list(told) == [f"line {number}" for number in (2, 4, 5, 6, 7, 8)]
    assert "event_id" in told["line 2"]
    assert "partition" in told["line 6"]
    assert "kind" in told["line 7"]
    assert "longer than any event" in told["line 8"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.jsonl", None, "there is no such file; moard events export writes one"),
        ("events.jsonl.zst", b"", "only .gz is read and written"),
        ("cut.jsonl.gz", gzip.compress(b"x" * 1_000)[:-12], "is not whole"),
        ("plain.jsonl.gz", b"plain text", "is not whole"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RefusedStart, match=told):
        await Stand().import_(tmp_path / name)


def test_bad_options_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").touch()
    run = CliRunner().invoke
    for arguments, told in (
        (["events", "export", str(tmp_path / "there.jsonl")], "is there already"),
        (["events", "export", str(tmp_path / "new.jsonl"), "--from", "soon"], "--from soon"),
        (["events", "export", str(tmp_path / "new.zst")], "use a pipe"),
        (["events", "import", str(tmp_path / "gone.jsonl")], "no such file"),
    ):
        refused = run(app, arguments).exception
        assert isinstance(refused, RefusedStart)
        assert told in str(refused)


def test_a_span_of_an_unfinished_export_survives_json() -> None:
    state = Progressed("c", ("", ""), (Span(1, 5),), (3,), 10, 2, 0)
    assert event_export._state_of(orjson.loads(orjson.dumps(asdict(state), default=tuple))) == state


async def test_an_erasure_is_moved_along_and_stays_what_it_is() -> None:
    stand = Stand(partitions=1)
    erasure = Erasure(event_id="forget", user_id="ann")
    lines = [(1, orjson.dumps({"partition": 0, "offset": 3, "append_ms": NOW_MS, "event": asdict(erasure)}))]
    done = await import_lines(lines, KnownIds(), MemoryProducer(stand.log), Progress(disable=True), None)
    assert done.appended == 1
    (record,) = stand.log.records(EVENTS)
    assert decode_event(record.value, Origin(EVENTS, 0, 0)) == erasure
    assert b"source" not in (record.value or b"")
