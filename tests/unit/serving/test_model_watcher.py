"""The watcher swaps in what passes every check and keeps the old snapshot otherwise."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from libs.adapters.memory import MemorySnapshotStore
from libs.adapters.ports import SnapshotMeta
from libs.rl import snapshot as snapshots
from libs.rl.action_space import ActionSpace
from libs.rl.scoring import Scorer
from libs.rl.snapshot import Snapshot
from libs.rl.snapshot import encode as encode_snapshot
from libs.rl.transitions import State
from services.serving.last_good import LastGood
from tests.snapshots import random_snapshot
from tests.unit.serving.world import VECTOR, World, WorldFactory, meta_of, until


def named(snapshot: Snapshot, blob: bytes) -> tuple[SnapshotMeta, bytes]:
    return meta_of(snapshot, blob, version=2_000), blob


def flipped(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    meta, blob = named(snapshot, encode_snapshot(snapshot))
    at = len(blob) // 2
    return meta, blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


def truncated(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    meta, blob = named(snapshot, encode_snapshot(snapshot))
    return meta, blob[:-10]


def truncated_by_its_writer(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    return named(snapshot, encode_snapshot(snapshot)[:-10])


def no_snapshot_at_all(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    return named(snapshot, b"PK\x03\x04" * 100)


def wrong_shape(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    bent = dataclasses.replace(snapshot, weights={**snapshot.weights, "heads.bias": np.zeros(3, np.float32)})
    return named(snapshot, encode_snapshot(bent))


def another_net_than_named(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    meta, blob = named(snapshot, encode_snapshot(snapshot))
    return dataclasses.replace(meta, arch="0123456789abcdef"), blob


def not_a_number(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    biases = np.full_like(snapshot.biases, np.nan)
    return named(snapshot, encode_snapshot(dataclasses.replace(snapshot, biases=biases)))


def diverged(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    weights = {**snapshot.weights, "heads.bias": np.full(2, 1e30, np.float32)}
    return named(snapshot, encode_snapshot(dataclasses.replace(snapshot, weights=weights)))


def from_the_future(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    meta, blob = named(snapshot, encode_snapshot(snapshot))
    return dataclasses.replace(meta, format=99), blob


def from_the_future_inside(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    arrays = safetensors.numpy.load(encode_snapshot(snapshot))
    metadata = {**snapshot.config, "format": "99", "arch": snapshots.arch(snapshot)}
    return named(snapshot, safetensors.numpy.save(arrays, metadata=metadata))


def oversize(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    blob = encode_snapshot(snapshot)
    return named(snapshot, blob + bytes(snapshots.MAX_BYTES + 1 - len(blob)))


def oversize_and_lying(snapshot: Snapshot) -> tuple[SnapshotMeta, bytes]:
    meta, blob = oversize(snapshot)
    return dataclasses.replace(meta, size_bytes=1_000), blob


def other_vectors(_: Snapshot) -> tuple[SnapshotMeta, bytes]:
    longer = random_snapshot((1, 2, 3), VECTOR + 1)
    return named(longer, encode_snapshot(longer))


Spoil = Callable[[Snapshot], tuple[SnapshotMeta, bytes]]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flipped, "sha256"),
        (truncated, "size"),
        (truncated_by_its_writer, "header"),
        (no_snapshot_at_all, "header"),
        (wrong_shape, "arch"),
        (another_net_than_named, "arch"),
        (not_a_number, "finite"),
        (diverged, "canary"),
        (from_the_future, "format"),
        (from_the_future_inside, "format"),
        (oversize, "size"),
        (oversize_and_lying, "size"),
        (other_vectors, "vector_size"),
    ],
)
async def test_a_bad_snapshot_is_counted_and_the_old_one_ranks_on(
    world: WorldFactory, spoil: Spoil, reason: str
) -> None:
    async with world() as w:
        good = await w.publish(1_000)
        served = w.serving.watcher.served
        await w.snapshots.publish(*spoil(good))
        await until(lambda: rejections(w, reason) == 1)
        assert w.serving.watcher.served is served
        assert (await rank_version(w)) == 1_000
        # It is not tried again and again, and the next good one is taken.
        await w.publish(3_000)
        assert rejections(w, reason) == 1
        assert (await rank_version(w)) == 3_000


async def test_a_bad_first_snapshot_leaves_the_cold_policy(world: WorldFactory) -> None:
    async def spoiled(w: World) -> None:
        await w.snapshots.publish(*flipped(random_snapshot((1,), VECTOR)))

    async with world(before=spoiled) as w:
        assert (await rank_version(w)) == 0
        assert rejections(w, "sha256") == 1


def test_contents_that_arrive_while_a_snapshot_is_built_are_scored_afterwards() -> None:
    class Busy(ActionSpace):
        def changed_since(self, version: int) -> np.ndarray:
            self.put(len(self), np.ones(VECTOR, np.float32))  # as the event loop would, between two reads
            return super().changed_since(version)

    space = Busy(VECTOR)
    scorer = Scorer(random_snapshot((1, 2, 3), VECTOR), space)
    scorer.canary()
    scorer.refresh(space)
    settled = ActionSpace(VECTOR)
    settled.put(1, np.ones(VECTOR, np.float32))
    first = np.array([1], np.int32)
    expected = Scorer(scorer.snapshot, settled).score(State(), first)
    assert scorer.score(State(), first).choice == pytest.approx(expected.choice, abs=1e-5)


async def test_the_pointers_disappearance_changes_nothing(world: WorldFactory) -> None:
    async with world(serving_snapshot_poll_ms=10) as w:
        await w.publish(1_000)
        w.snapshots.clear()
        assert (await rank_version(w)) == 1_000
        await w.publish(1_001)


async def test_an_older_version_is_ignored_unless_its_epoch_is_newer(world: WorldFactory) -> None:
    async with world(serving_snapshot_poll_ms=10) as w:
        await w.publish(1_000, epoch=5)
        served = w.serving.watcher.served
        w.snapshots.clear()
        older = random_snapshot((1, 2, 3), VECTOR, seed=1)
        blob = encode_snapshot(older)
        await w.snapshots.publish(meta_of(older, blob, 900, epoch=5), blob)
        await until(lambda: w.serving.watcher._looked_at == 900)
        assert w.serving.watcher.served is served
        w.snapshots.clear()
        await w.publish(901, epoch=6)
        assert w.metric("moard_serving_snapshot_swaps_total") == 2  # 900 did not come in between


async def test_an_outage_of_the_store_is_survived(world: WorldFactory) -> None:
    async with world(serving_snapshot_poll_ms=10) as w:
        await w.publish(1_000)
        w.snapshots.available = False
        await until(lambda: w.serving.watcher.store_away)
        assert (await rank_version(w)) == 1_000
        w.snapshots.available = True
        await w.publish(1_001)
        await until(lambda: not w.serving.watcher.store_away)


async def test_the_last_good_snapshot_ranks_when_a_worker_starts_without_a_store(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish(1_000)
        await until(lambda: (Path(w.settings.state_path) / "serving" / "moard.snapshot").exists())
    dead = MemorySnapshotStore()
    dead.available = False
    async with world(snapshots=dead) as w:
        assert (await rank_version(w)) == 1_000
        dead.available = True
        await w.publish(1_500)


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[:-1], lambda _: b"", lambda _: b"\xff\xfe", lambda raw: b"{}\n" + raw]
)
async def test_a_damaged_file_is_not_ranked_with(world: WorldFactory, spoil: Callable[[bytes], bytes]) -> None:
    async with world() as w:
        await w.publish(1_000)
        path = Path(w.settings.state_path) / "serving" / "moard.snapshot"
        await until(path.exists)
    path.write_bytes(spoil(path.read_bytes()))
    async with world() as w:
        assert (await rank_version(w)) == 0


def test_a_disk_that_refuses_is_survived(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    snapshot = random_snapshot((1,), VECTOR)
    blob = encode_snapshot(snapshot)
    LastGood(tmp_path / "file", "moard").save(meta_of(snapshot, blob, 1), blob)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    snapshot = random_snapshot((1,), VECTOR)
    blob = encode_snapshot(snapshot) + b"\n\n"
    store = LastGood(tmp_path, "moard")
    assert store.load() is None
    assert store.due()
    store.save(meta_of(snapshot, blob, 7, trained=(("e", 1),), offsets={"moard.events:0": 5}), blob)
    assert not store.due()
    loaded = store.load()
    assert loaded is not None
    meta, again = loaded
    assert (meta.version, dict(meta.offsets), again) == (7, {"moard.events:0": 5}, blob)
    assert hashlib.sha256(again).hexdigest() == meta.sha256


class TestMetrics:
    async def test_freshness_is_observed_for_each_trained_click(self, world: WorldFactory) -> None:
        async with world() as w:
            await w.publish(1_000, created_ms=2**50, trained=(("a", 0), ("b", 2**50)))
            assert w.metric("moard_freshness_seconds_count") == 2
            # One click from 1970, one stamped by a broker whose clock is ahead.
            assert w.metric("moard_freshness_seconds_bucket", le="0.05") == 1

    async def test_what_was_published_before_the_worker_began_does_not_count(self, world: WorldFactory) -> None:
        async def published(w: World) -> None:
            await w.publish(1_000, created_ms=1, trained=(("a", 0),))

        async with world(before=published) as w:
            assert w.version == 1_000
            assert w.metric("moard_freshness_seconds_count") == 0

    async def test_version_and_age(self, world: WorldFactory) -> None:
        async with world() as w:
            assert np.isnan(w.metric("moard_serving_snapshot_age_seconds"))
            await w.publish(1_000, created_ms=0)
            assert w.metric("moard_serving_snapshot_version") == 1_000
            assert w.metric("moard_serving_snapshot_age_seconds") > 1.7e9
            assert w.metric("moard_serving_snapshot_swaps_total") == 1


def rejections(w: World, reason: str) -> float:
    return w.metric("moard_serving_snapshot_rejected_total", reason=reason)


async def rank_version(w: World) -> int:
    answer = await w.client.post("/api/v1/rank", json={"user_id": "ann", "candidates": [1, 2, 3]})
    assert answer.status_code == 200
    version: int = answer.json()["snapshot_version"]
    return version
