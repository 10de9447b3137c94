"""What is in Redis afterwards: nothing published expires, nothing refused stays."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.local import Addresses
from libs.adapters.ports import Visit
from libs.adapters.redis_client import connect
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.user_history import RedisUserHistory
from libs.errors import Fenced, SnapshotRejected
from tests.contract.test_snapshot_store import snapshot

pytestmark = pytest.mark.stack


@pytest.fixture
async def redis(stack: Addresses) -> AsyncIterator[Any]:
    client = connect(stack.redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def model() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
async def snapshots(stack: Addresses, model: str) -> AsyncIterator[RedisSnapshotStore]:
    store = RedisSnapshotStore(stack.redis_url, model)
    yield store
    await store.close()


async def lifetimes(redis: Any, pattern: str) -> dict[str, int]:
    return {key.decode(): await redis.ttl(key) async for key in redis.scan_iter(pattern)}


async def test_published_keys_stay_and_refused_ones_go(redis: Any, model: str, snapshots: RedisSnapshotStore) -> None:
    await snapshots.publish(*snapshot(20, epoch=2))
    with pytest.raises(Fenced):
        await snapshots.publish(*snapshot(30, epoch=1))
    names = ("20", "meta:20", "current", "epoch", "versions", "log")
    assert await lifetimes(redis, f"snap:{model}:*") == {f"snap:{model}:{name}": -1 for name in names}


async def test_superseded_snapshots_leave_nothing(redis: Any, model: str, snapshots: RedisSnapshotStore) -> None:
    for version in range(1, 15):
        await snapshots.publish(*snapshot(version))
    blobs = {f"snap:{model}:{version}" for version in range(5, 15)}
    found = set(await lifetimes(redis, f"snap:{model}:*"))
    assert {key for key in found if key.rpartition(":")[2].isdecimal() and "meta" not in key} == blobs
    assert sum("meta" in key for key in found) == 10


async def test_unreadable_metadata_is_rejected_by_name(redis: Any, model: str, snapshots: RedisSnapshotStore) -> None:
    await snapshots.publish(*snapshot(20))
    await redis.hdel(f"snap:{model}:meta:20", "sha256")
    with pytest.raises(SnapshotRejected, match="header"):
        await snapshots.current()
    await redis.unlink(f"snap:{model}:meta:20")
    assert await snapshots.current() is None


async def test_an_unreadable_pointer_is_rejected_until_it_is_replaced(
    redis: Any, model: str, snapshots: RedisSnapshotStore
) -> None:
    await redis.hset(f"snap:{model}:current", mapping={"version": "nonsense", "epoch": "1"})
    with pytest.raises(SnapshotRejected, match="nonsense"):
        await snapshots.current()
    await snapshots.publish(*snapshot(21))
    current = await snapshots.current()
    assert current is not None
    assert current.version == 21


async def test_histories_expire_after_months_and_the_generation_never(redis: Any, stack: Addresses) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    histories = RedisUserHistory(stack.redis_url, prefix=prefix)
    await histories.append([("ann", Visit("e", 1, 1))])
    await histories.mark_seen(["bob"])
    await histories.begin_generation("g")
    await histories.close()
    found = await lifetimes(redis, f"{prefix}:*")
    months = {name for name, left_s in found.items() if left_s > 90 * 24 * 3_600}
    assert months == {f"{prefix}:user:ann", f"{prefix}:seen:bob"}
    assert found[f"{prefix}:generation"] == -1
