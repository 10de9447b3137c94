"""``moard evaluate`` on files: what it finds, what it refuses, and what it says then."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from libs.adapters.memory import MemorySnapshotStore
from libs.adapters.ports import SnapshotMeta
from libs.errors import RefusedStart
from libs.events.codec import encode
from libs.events.schema import Event, Impression
from libs.events.topics import EVENTS
from libs.rl.slates import Exploration
from libs.rl.snapshot import Snapshot, arch
from libs.rl.snapshot import encode as encode_snapshot
from services.cli.__main__ import app
from services.cli.evaluation_input import Entry
from services.cli.evaluation_target import Loaded, load_snapshot
from tests.builders import NOW_MS, drawn, impression, interaction
from tests.snapshots import random_snapshot

SCORES = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
CHANCES = np.array([0.7, 0.1, 0.2, 0.05, 0.4, 0.1])
UNIFORM = 3 * CHANCES.mean()
EACH_MS = 10_000


def events(requests: int, seed: int = 0) -> list[Event]:
    """Return what forty users saw and clicked, ten seconds apart, in the order of the log."""
    rng = np.random.default_rng(seed)
    stream: list[Event] = []
    for number in range(requests):
        at_ms, user = NOW_MS + EACH_MS * number, f"user-{number % 40}"
        predictions = {"choice": (0.0,) * 3, "advantage": (1.0,) * 3, "value": 1.0, "continuation": 0.5}
        shown = drawn(
            SCORES,
            3,
            rng,
            Exploration(1.0, 0.1),
            user_id=user,
            event_id=f"i{number}",
            timestamp_ms=at_ms,
            **predictions,
        )
        stream.append(shown)
        for content_id in shown.slate:
            if rng.random() < CHANCES[content_id - 1]:
                ids = {"event_id": f"c{number}-{content_id}", "impression_id": shown.event_id}
                stream.append(interaction(user, content_id, timestamp_ms=at_ms + 1_000, **ids))
    return stream


def envelope(number: int, event: Event) -> bytes:
    where = {"partition": 0, "offset": number, "append_ms": event.timestamp_ms}
    return orjson.dumps(where | {"event": orjson.loads(encode(event))})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a file of wire documents."""
    return written(tmp_path / "events.jsonl", [encode(event) for event in events(1_200)])


def written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # away from any .env
    monkeypatch.setenv("MOARD_VECTOR_SIZE", "4")
    monkeypatch.setenv("MOARD_LEARNER_REWARD_WEIGHTS", '{"click": 1.0}')


def moard(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def found(*arguments: object, exit_code: int = 0) -> dict[str, Any]:
    result = moard(*arguments, "--json")
    assert result.exit_code == exit_code, (result.output, result.exception)
    document: dict[str, Any] = orjson.loads(result.stdout)
    return document


def refusal(*arguments: object) -> str:
    result = moard(*arguments)
    assert isinstance(result.exception, RefusedStart), (result.output, result.exception)
    return str(result.exception)


def test_a_log_under_its_own_policy_has_weights_of_one(log: Path) -> None:
    report = found("--file", log, "--policy", "logged")
    clicks = sum(b'"click"' in line for line in log.read_bytes().splitlines())
    assert report["impressions"] == 1_200
    assert report["users"] == 40
    assert report["logged_value"] == pytest.approx(clicks / 1_200)
    for name in ("ips", "snips", "rips", "snrips"):
        estimate = report["estimates"][name]
        assert estimate["value"] == pytest.approx(report["logged_value"], rel=1e-4)
        assert estimate["weights"]["mean"] == pytest.approx(1.0, abs=1e-4)
        assert estimate["weights"]["ess"] == pytest.approx(1_200, rel=1e-3)
        assert estimate["lift"] == pytest.approx(0.0, abs=1e-4)


def test_the_value_of_random_slates_is_found_by_every_estimator(log: Path) -> None:
    report = found("--file", log, "--policy", "uniform")
    for name in ("ips", "snips", "rips", "snrips"):
        estimate = report["estimates"][name]
        assert estimate["interval"]["low"] < UNIFORM < estimate["interval"]["high"]
        assert (estimate["refused"], estimate["invalid"]) == ("", "")
    assert report["estimates"]["dr"]["refused"] == "model"
    assert report["propensity_difference"] < 1e-6


def test_exploiting_is_worth_more_where_scores_are_right_and_temperature_can_be_given(log: Path) -> None:
    exploit = found("--file", log)
    assert exploit["policy"] == "exploit"
    assert found("--file", log, "--policy", "logged", "--temperature", 0.5, "--epsilon", 0)["estimates"] == {
        **exploit["estimates"]
    }


def test_predictions_are_judged_too(log: Path) -> None:
    report = found("--file", log)
    assert report["choice"]["n"] == 3_600
    assert report["choice"]["logloss"] == pytest.approx(np.log(2))
    assert report["choice"]["base_rate"] == pytest.approx(report["logged_value"] / 3)
    # A user's next request is 400 s later, and γ^6.7 of it counts: the last seven may still miss more than 1 %.
    assert report["value_calibration"]["requests"] == 1_200 - 7 * 40
    assert report["value_calibration"]["slope"] is None  # all promised the same
    assert sum(tenth["n"] for tenth in report["value_calibration"]["tenths"]) == report["value_calibration"]["requests"]


def test_a_table_for_people_names_estimators_and_refusals(log: Path) -> None:
    result = moard("--file", log, "--policy", "uniform")
    assert result.exit_code == 0
    for word in (
        "uniform",
        "1,200 impressions",
        "SN-RIPS",
        "ESS",
        "Refused: needs a reward model",
        "auc",
        "Returns by tenths",
    ):
        assert word in result.stdout


def test_too_few_impressions_are_refused_with_exit_code_2(tmp_path: Path) -> None:
    few = written(tmp_path / "few.jsonl", [encode(event) for event in events(60)])
    report = found("--file", few, "--policy", "uniform", exit_code=2)
    assert {estimate["refused"] for estimate in report["estimates"].values()} == {"ess", "model"}
    assert report["estimates"]["ips"]["weights"]["ess"] < 100
    nothing = found("--file", written(tmp_path / "none.jsonl", []), exit_code=2)
    assert nothing["estimates"]["ips"]["refused"] == "rows"
    assert nothing["logged_value"] is None


def test_rotten_propensities_make_it_invalid(tmp_path: Path) -> None:
    lines = [
        encode(event).replace(b'"temperature":1.0', b'"temperature":0.9')
        if isinstance(event, Impression)
        else encode(event)
        for event in events(400)
    ]
    report = found("--file", written(tmp_path / "rotten.jsonl", lines), "--policy", "uniform", exit_code=2)
    assert report["estimates"]["snrips"]["invalid"] == "propensities"
    assert report["propensity_difference"] > 1e-4


def test_what_cannot_be_used_or_read_is_counted(tmp_path: Path) -> None:
    lines = [encode(event) for event in events(300)]
    lines += [b"not json", b'{"type": "impression"}', b'{"partition": -1, "event": {}}']
    lines += [encode(impression("eve", event_id=f"g{n}", scores=(1.0, 2.0, 3.0), temperature=0.2)) for n in range(3)]
    lines += [encode(impression("eve", event_id="x", arm="external", candidates=(), log_propensities=()))]
    report = found("--file", written(tmp_path / "mixed.jsonl", lines), "--policy", "logged")
    assert report["impressions"] == 300
    assert report["excluded"] == {"greedy": 3, "external": 1}
    assert report["unreadable"] == 3
    assert report["notes"][0].startswith("3 events could not be read, the first: line")


def test_a_range_is_given_by_time_or_by_offsets(tmp_path: Path) -> None:
    stream = events(300)
    lines = written(tmp_path / "envelopes.jsonl", [envelope(number, event) for number, event in enumerate(stream)])
    middle = next(number for number, event in enumerate(stream) if event.event_id == "i100")
    by_offset = found("--file", lines, "--policy", "logged", "--from", f"0:{middle}")
    by_time = found("--file", lines, "--policy", "logged", "--from", "2025-06-15T15:23:20")
    assert by_offset == by_time
    assert by_offset["impressions"] == 200
    cut = found("--file", lines, "--policy", "logged", "--from", NOW_MS, "--to", NOW_MS + 150 * EACH_MS)
    assert cut["impressions"] == 150
    clicks = sum(event.event_id.startswith("c") for event in stream[: [e.event_id for e in stream].index("i150")])
    assert cut["logged_value"] == pytest.approx(clicks / 150)  # those of the last impression lie behind the range


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "yesterday"), "--from yesterday: give a time"),
        (("--to", "0:1,2"), "--to 0:1,2: give a time"),
        (("--file", "nowhere.jsonl"), "--file nowhere.jsonl: there is no such file"),
        (("--temperature", "0"), "--temperature 0.0: must be above 0"),
        (("--epsilon", "2"), "--epsilon 2.0: must lie between 0 and 1"),
        (("--version", "1", "--snapshot", "x"), "--version and --snapshot both name a snapshot"),
        (("--snapshot", "nowhere.safetensors"), "--snapshot nowhere.safetensors: No such file"),
    ],
)
def test_an_option_at_fault_is_named_with_the_remedy(arguments: tuple[str, ...], told: str) -> None:
    assert told in refusal(*arguments)


# ---- snapshots


def meta_of(snapshot: Snapshot, blob: bytes, **fields: Any) -> SnapshotMeta:
    digest = hashlib.sha256(blob).hexdigest()
    values: dict[str, Any] = {"version": 7, "epoch": 1, "step": 1, "sha256": digest, "size_bytes": len(blob)}
    values |= {"created_ms": 0, "format": 1, "arch": arch(snapshot), "offsets": {}}
    return SnapshotMeta(**(values | fields))


@pytest.fixture
def snapshot() -> Snapshot:
    return random_snapshot(range(1, 7), vector_size=4)


def test_a_bare_snapshot_is_refused_unless_allowed_and_then_said_so(
    log: Path, tmp_path: Path, snapshot: Snapshot
) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(encode_snapshot(snapshot))
    told = refusal("--file", log, "--policy", "snapshot", "--snapshot", path)
    assert "some.safetensors was trained on events of this range" in told
    assert "--allow-trained" in told
    report = found("--file", log, "--policy", "snapshot", "--snapshot", path, "--allow-trained", "--temperature", 2)
    assert "some.safetensors was trained on 1,200 of these impressions: this is a fit" in report["notes"][0]
    assert report["policy"] == "some.safetensors, rule value, T = 2.0"
    doubly = report["estimates"]["dr"]["interval"]
    assert doubly["low"] < report["estimates"]["snrips"]["value"] < doubly["high"]
    assert report["estimates"]["ips"]["weights"]["mean"] == pytest.approx(1.0, abs=0.1)


def test_only_events_behind_the_snapshots_offsets_are_new_to_it(tmp_path: Path, snapshot: Snapshot) -> None:
    stream = events(600)
    lines = written(tmp_path / "envelopes.jsonl", [envelope(number, event) for number, event in enumerate(stream)])
    cut = next(number for number, event in enumerate(stream) if event.event_id == "i200")
    blob = encode_snapshot(snapshot)
    path = tmp_path / "moard.snapshot"
    path.write_bytes(orjson.dumps(asdict(meta_of(snapshot, blob, offsets={f"{EVENTS}:0": cut}))) + b"\n" + blob)
    asked = ("--file", lines, "--policy", "uniform", "--snapshot", path)
    told = refusal(*asked)
    assert f"--from 0:{cut}" in told
    report = found(*asked, "--from", f"0:{cut}")
    assert report["impressions"] == 400
    assert report["notes"] == [
        "Contents were scored without text vectors: those come from the topic moard.contents alone."
    ]
    uniform = report["estimates"]
    assert uniform["dr"]["interval"]["low"] < UNIFORM < uniform["dr"]["interval"]["high"]


def test_offsets_of_another_cluster_say_nothing(snapshot: Snapshot) -> None:
    blob = encode_snapshot(snapshot)
    meta = meta_of(snapshot, blob, created_ms=NOW_MS, offsets={f"{EVENTS}:0": 100}, extra={"cluster_id": "ours"})
    loaded = Loaded(snapshot, meta, "some")
    known, later = (Entry(0, offset, NOW_MS + 1, impression()) for offset in (99, 100))
    assert (loaded.on("ours").trained_on(known), loaded.on("ours").trained_on(later)) == (True, False)
    assert not loaded.on("theirs").trained_on(known)  # appended after these weights were made


def test_without_offsets_the_times_decide(tmp_path: Path, log: Path, snapshot: Snapshot) -> None:
    blob = encode_snapshot(snapshot)
    path = tmp_path / "moard.snapshot"
    for created_ms, refused in ((NOW_MS - 1, False), (NOW_MS, True)):
        path.write_bytes(orjson.dumps(asdict(meta_of(snapshot, blob, created_ms=created_ms))) + b"\n" + blob)
        asked = ("--file", log, "--policy", "uniform", "--snapshot", path)
        if refused:
            assert f"--from {NOW_MS + 1}" in refusal(*asked)
        else:
            assert found(*asked)["impressions"] == 1_200


def test_a_snapshot_of_other_vectors_names_the_setting(
    tmp_path: Path, log: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOARD_VECTOR_SIZE", "5")
    path = tmp_path / "some.safetensors"
    path.write_bytes(encode_snapshot(snapshot))
    assert "MOARD_VECTOR_SIZE is 5" in refusal("--file", log, "--policy", "snapshot", "--snapshot", path)


async def test_a_version_that_is_gone_names_those_that_are_kept(snapshot: Snapshot) -> None:
    store = MemorySnapshotStore()
    with pytest.raises(RefusedStart, match="no snapshot was published yet"):
        await load_snapshot(store, None, 4)
    blob = encode_snapshot(snapshot)
    await store.publish(meta_of(snapshot, blob), blob)
    assert (await load_snapshot(store, None, 4)).name == "snapshot 7"
    with pytest.raises(RefusedStart, match=r"--version 8: .*kept are: 7"):
        await load_snapshot(store, 8, 4)
