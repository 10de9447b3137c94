"""What only the twins offer: outages, and coming back empty."""

import pytest

from libs.adapters.memory import MemoryContentStore, MemorySnapshotStore, MemoryUserHistory
from libs.adapters.ports import SnapshotMeta, StoredContent, Visit
from libs.errors import StoreUnavailable

META = SnapshotMeta(5, 2, 1, "sha", 4, 5, 1, "arch", {})


async def test_a_store_that_is_switched_off_is_unavailable() -> None:
    snapshots, histories, contents = MemorySnapshotStore(), MemoryUserHistory(), MemoryContentStore()
    snapshots.available = histories.available = contents.available = False
    for question in (
        snapshots.current(),
        snapshots.publish(META, b"blob"),
        snapshots.wait(0, 1),
        snapshots.claim_epoch(1),
        histories.append([]),
        histories.recent("ann", 1),
        histories.generation(),
        contents.start(),
        contents.get([1]),
        contents.user_exists("ann"),
    ):
        with pytest.raises(StoreUnavailable, match="switched off"):
            await question
    snapshots.available = True
    assert await snapshots.current() is None


async def test_a_cleared_store_has_forgotten_everything() -> None:
    snapshots, histories = MemorySnapshotStore(), MemoryUserHistory()
    await snapshots.publish(META, b"blob")
    await histories.append([("ann", Visit("e", 1, 1))])
    await histories.begin_generation("g")
    snapshots.clear()
    histories.clear()
    assert (await snapshots.current(), await snapshots.versions()) == (None, [])
    assert (await histories.generation(), await histories.seen("ann")) == (None, False)
    assert await histories.consumptions([1]) == [0]
    await snapshots.publish(META, b"blob")
    assert await snapshots.current() == META


async def test_a_catalogue_starts_with_what_it_is_given() -> None:
    contents = MemoryContentStore([StoredContent(1, title="a")], users=["5f2b1f3e-8a55-4f4e-9d0a-0a8f6d2b4b11"])
    assert await contents.get([1, 2]) == [StoredContent(1, title="a")]
    assert await contents.user_exists("5F2B1F3E-8A55-4F4E-9D0A-0A8F6D2B4B11")
