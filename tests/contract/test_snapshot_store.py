"""What publisher and readers rely on of a snapshot store, held against Redis and against its twin."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from libs.adapters.ports import SnapshotMeta, SnapshotStore
from libs.errors import Fenced, NoSnapshot

HOUR_MS = 3_600_000


def snapshot(version: int, epoch: int = 1, blob: bytes | None = None) -> tuple[SnapshotMeta, bytes]:
    blob = f"weights {version}".encode() if blob is None else blob
    meta = SnapshotMeta(
        version=version,
        epoch=epoch,
        step=3,
        sha256=hashlib.sha256(blob).hexdigest(),
        size_bytes=len(blob),
        created_ms=version,
        format=1,
        arch="a" * 8,
        offsets={"moard.events:0": 17, "moard.contents:0": 2},
        trained=(("click-1", 1_700_000_000_000),),
        extra={"reward": "r1"},
    )
    return meta, blob


async def test_an_empty_store_has_nothing(snapshots: SnapshotStore) -> None:
    assert await snapshots.current() is None
    assert await snapshots.versions() == []
    assert await snapshots.wait(0, timeout_s=0.05) is None
    with pytest.raises(NoSnapshot):
        await snapshots.load(1)


async def test_what_was_published_comes_back_whole(snapshots: SnapshotStore) -> None:
    meta, blob = snapshot(1_700_000_000_123, blob=bytes(range(256)) * 1_000)
    await snapshots.publish(meta, blob)
    assert await snapshots.current() == meta
    assert await snapshots.load(meta.version) == (meta, blob)


async def test_the_pointer_never_goes_back(snapshots: SnapshotStore) -> None:
    await snapshots.publish(*snapshot(20))
    for stale in (snapshot(19), snapshot(20, blob=b"others")):
        with pytest.raises(Fenced, match="20"):
            await snapshots.publish(*stale)
    current = await snapshots.current()
    assert current == snapshot(20)[0]
    assert (await snapshots.load(20))[1] == snapshot(20)[1]
    assert await snapshots.versions() == [20]


async def test_publishing_the_same_again_succeeds(snapshots: SnapshotStore) -> None:
    await snapshots.publish(*snapshot(20))
    await snapshots.publish(*snapshot(20))
    assert await snapshots.versions() == [20]


async def test_a_lower_epoch_is_fenced_whatever_its_version(snapshots: SnapshotStore) -> None:
    await snapshots.publish(*snapshot(20, epoch=2))
    with pytest.raises(Fenced, match="2"):
        await snapshots.publish(*snapshot(30, epoch=1))
    await snapshots.publish(*snapshot(30, epoch=2))
    with pytest.raises(NoSnapshot):
        await snapshots.load(31)


async def test_claiming_an_epoch_fences_the_one_before_at_once(snapshots: SnapshotStore) -> None:
    first = await snapshots.claim_epoch(at_least=1)
    await snapshots.publish(*snapshot(20, epoch=first))
    second = await snapshots.claim_epoch(at_least=1)
    assert second > first
    with pytest.raises(Fenced):
        await snapshots.publish(*snapshot(30, epoch=first))
    await snapshots.publish(*snapshot(30, epoch=second))


async def test_an_epoch_is_above_those_known_elsewhere(snapshots: SnapshotStore) -> None:
    assert await snapshots.claim_epoch(at_least=7) == 7
    assert await snapshots.claim_epoch(at_least=3) == 8


async def test_of_two_publishers_one_wins_and_pointer_and_blob_agree(snapshots: SnapshotStore) -> None:
    async def publish(name: bytes) -> bool:
        try:
            await snapshots.publish(*snapshot(50, blob=name))
        except Fenced:
            return False
        return True

    won = await asyncio.gather(*(publish(f"publisher {number}".encode()) for number in range(8)))
    assert sum(won) == 1
    meta = await snapshots.current()
    assert meta is not None
    assert hashlib.sha256((await snapshots.load(50))[1]).hexdigest() == meta.sha256


async def test_wait_returns_at_once_when_there_is_something_else(snapshots: SnapshotStore) -> None:
    await snapshots.publish(*snapshot(20))
    meta = await snapshots.wait(10, timeout_s=10)
    assert meta is not None
    assert meta.version == 20
    assert await snapshots.wait(20, timeout_s=0.05) is None


async def test_wait_wakes_at_a_publication(snapshots: SnapshotStore) -> None:
    await snapshots.publish(*snapshot(20))
    waiting = asyncio.create_task(snapshots.wait(20, timeout_s=60))
    for version in (21, 22):
        await snapshots.publish(*snapshot(version))
    meta = await asyncio.wait_for(waiting, 10)
    assert meta is not None
    assert meta.version in (21, 22)


async def test_the_newest_ten_are_kept_and_one_of_each_hour(snapshots: SnapshotStore) -> None:
    start = 500_000 * HOUR_MS
    hourly = [start + hour * HOUR_MS for hour in range(-30, 0)]
    recent = [start + second * 1_000 for second in range(15)]
    for version in [*hourly, *recent]:
        await snapshots.publish(*snapshot(version))
    kept = await snapshots.versions()
    assert kept[:10] == recent[:4:-1]
    assert set(kept[10:]) == {version for version in hourly if version > recent[-1] - 24 * HOUR_MS}
    with pytest.raises(NoSnapshot):
        await snapshots.load(recent[0])
    assert await snapshots.load(hourly[-1]) == snapshot(hourly[-1])


async def test_metadata_without_samples_comes_back_too(snapshots: SnapshotStore) -> None:
    meta, blob = snapshot(5)
    meta = replace(meta, trained=(), extra={}, offsets={})
    await snapshots.publish(meta, blob)
    assert await snapshots.current() == meta
