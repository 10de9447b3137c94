"""What the readers of snapshots rely on to obey a pin, held against Redis and against the twin."""

import asyncio

from libs.adapters.model_ports import UNPINNED, Pin, ServedSnapshots
from tests.contract.test_snapshot_store import snapshot

PIN = Pin("before-the-sale", 1_700_000_000_123, "a" * 64, 1_700_000_000_456, "key-1")


async def test_an_empty_store_never_heard_of_a_pin(snapshots: ServedSnapshots) -> None:
    assert await snapshots.mirrored() is None
    assert await snapshots.wait_mirrored(None, timeout_s=0.05) is None
    assert await snapshots.metas() == []


async def test_what_was_told_last_is_known(snapshots: ServedSnapshots) -> None:
    for pin in (PIN, UNPINNED, PIN):
        await snapshots.mirror(pin, [])
        assert await snapshots.mirrored() == pin


async def test_waiting_ends_at_once_when_something_else_is_told_already(snapshots: ServedSnapshots) -> None:
    await snapshots.mirror(PIN, [])
    assert await asyncio.wait_for(snapshots.wait_mirrored(UNPINNED, timeout_s=60), 10) == PIN
    assert await snapshots.wait_mirrored(PIN, timeout_s=0.05) == PIN


async def test_waiting_ends_when_something_is_told(snapshots: ServedSnapshots) -> None:
    await snapshots.mirror(UNPINNED, [])
    waiting = asyncio.create_task(snapshots.wait_mirrored(UNPINNED, timeout_s=60))
    await asyncio.sleep(0)
    await snapshots.mirror(PIN, [])
    assert await asyncio.wait_for(waiting, 10) == PIN


async def test_kept_versions_stay_beyond_retention_until_they_are_let_go(snapshots: ServedSnapshots) -> None:
    for version in range(1, 4):
        await snapshots.publish(*snapshot(version))
    await snapshots.mirror(UNPINNED, [1, 3])
    for version in range(4, 20):
        await snapshots.publish(*snapshot(version))
    assert await snapshots.versions() == [*range(19, 9, -1), 3, 1]
    assert await snapshots.load(3) == snapshot(3)
    await snapshots.mirror(UNPINNED, [3])
    await snapshots.publish(*snapshot(20))
    assert await snapshots.versions() == [*range(20, 10, -1), 3]


async def test_the_lineage_is_told_without_blobs(snapshots: ServedSnapshots) -> None:
    for version in (20, 30):
        await snapshots.publish(*snapshot(version))
    assert await snapshots.metas() == [snapshot(30)[0], snapshot(20)[0]]
