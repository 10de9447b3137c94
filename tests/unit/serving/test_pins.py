"""A pin is obeyed by every worker, and holds whatever goes away."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from libs.adapters.memory import MemoryModelStore, MemorySnapshotStore
from libs.adapters.model_ports import UNPINNED, ModelChange, Pin
from libs.errors import StoreUnavailable
from libs.rl.snapshot import encode as encode_snapshot
from services.serving.last_good import LastGood
from tests.snapshots import random_snapshot
from tests.unit.serving.test_model_watcher import flipped, rejections
from tests.unit.serving.test_models import call, change, kept, names, scores
from tests.unit.serving.world import VECTOR, World, WorldFactory, meta_of, until


async def publish_unserved(w: World, version: int, **fields: Any) -> None:
    snapshot = random_snapshot((1, 2, 3), VECTOR, seed=version)
    blob = encode_snapshot(snapshot)
    await w.snapshots.publish(meta_of(snapshot, blob, version, **fields), blob)


async def looked_at(w: World, version: int) -> None:
    await until(lambda: w.serving.watcher._looked_at == version)


async def obeys(w: World, pin: Pin) -> None:
    await until(lambda: w.serving.watcher.pin == pin)
    await until(lambda: w.version == (2_000 if pin.name is None else 1_000))


def stores(w: World) -> dict[str, Any]:
    return {"snapshots": w.snapshots, "models": w.models}


async def test_newer_snapshots_wait_while_a_pin_stands(world: WorldFactory) -> None:
    async with kept(world) as w:
        await change(w, "friday")
        assert w.metric("moard_serving_pinned_version") == 1_000
        await publish_unserved(w, 3_000)
        await looked_at(w, 3_000)
        assert w.version == 1_000
        await change(w, "latest")
        assert w.version == 3_000
        assert w.metric("moard_serving_pinned_version") == 0
        await w.publish(4_000)


async def test_what_is_pinned_already_serving_is_not_loaded_again_and_holds(world: WorldFactory) -> None:
    async with kept(world) as w:
        swaps = w.metric("moard_serving_snapshot_swaps_total")
        await call(w, "POST", "snapshots/2000/pin")
        assert (await names(w))[1] == "snapshot-2000"
        await publish_unserved(w, 3_000)
        await looked_at(w, 3_000)
        assert (w.version, w.metric("moard_serving_snapshot_swaps_total")) == (2_000, swaps)
        await change(w, "latest")
        assert w.version == 3_000


async def test_freshness_says_nothing_of_what_a_pin_held(world: WorldFactory) -> None:
    async with kept(world) as w:
        await publish_unserved(w, 2_500, created_ms=2**50, trained=(("a", 0),))
        await until(lambda: w.metric("moard_freshness_seconds_count") == 1)
        await change(w, "friday")
        await call(w, "POST", "snapshots/2500/pin")
        await change(w, "friday")
        await publish_unserved(w, 3_000, created_ms=2**50, trained=(("b", 0),))
        await change(w, "latest")
        assert (w.version, w.metric("moard_freshness_seconds_count")) == (3_000, 1)
        await publish_unserved(w, 3_001, created_ms=2**50, trained=(("c", 0),))
        await until(lambda: w.metric("moard_freshness_seconds_count") == 2)


async def test_every_worker_obeys(world: WorldFactory) -> None:
    async with kept(world) as w, world(**stores(w)) as other:
        assert other.version == 2_000
        await change(w, "friday")
        await until(lambda: other.version == 1_000)
        assert await scores(other) == await scores(w)
        assert (await names(other))[1] == "friday"
        await change(other, "latest")
        await until(lambda: w.version == 2_000)


async def test_a_pin_outlives_an_emptied_redis_and_retention(world: WorldFactory) -> None:
    async with kept(world) as w:
        pinned = await scores(w)
        await call(w, "POST", "snapshots/2000/pin")
        w.snapshots.clear()
        await until(lambda: w.snapshots._pin == w.serving.watcher.pin)  # it is told again
        for version in range(3_000, 3_020):
            await publish_unserved(w, version)
        await looked_at(w, 3_019)
        assert await scores(w) == pinned
        # A worker that starts now has it from SQL: Redis lost the blob.
        async with world(**stores(w), state_path=str(Path(w.settings.state_path) / "other")) as other:
            assert other.version == 2_000
            assert await scores(other) == pinned
            assert other.metric("moard_serving_snapshot_swaps_total") == 1  # never anything else


async def test_kept_snapshots_are_exempt_from_retention_until_deleted(world: WorldFactory) -> None:
    async with kept(world) as w:
        for version in range(3_000, 3_012):
            await publish_unserved(w, version)
        assert 1_000 in await w.snapshots.versions()
        await call(w, "DELETE", "model/friday")
        await publish_unserved(w, 3_012)
        assert 1_000 not in await w.snapshots.versions()


async def test_with_sql_away_a_worker_starts_with_what_redis_tells(world: WorldFactory) -> None:
    async with kept(world) as w:
        await change(w, "friday")
        w.models.available = False
        async with world(**stores(w), state_path=str(Path(w.settings.state_path) / "other")) as other:
            assert other.version == 1_000
            w.models.available = True
            await change(w, "latest")
            await until(lambda: other.version == 2_000)


async def test_sql_is_asked_when_it_is_back_although_redis_told_nothing_new(world: WorldFactory) -> None:
    async with kept(world) as w:
        await change(w, "friday")
        w.models.available = False
        async with world(**stores(w), state_path=str(Path(w.settings.state_path) / "other")) as other:
            assert other.version == 1_000
            w.models.available = True
            await w.models.unpin(ModelChange("unpin", "friday", "a", "r", 1))
            await until(lambda: other.version == 2_000)


async def test_a_pinned_snapshot_that_nobody_can_give_yet_is_asked_for_again(
    world: WorldFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> Any:
        raise StoreUnavailable("away")

    async with kept(world) as w:
        w.snapshots._kept.pop(1_000)
        with monkeypatch.context() as patch:
            patch.setattr(w.models, "load", away)
            await change(w, "friday")
            assert (w.version, (await names(w))[1]) == (2_000, "latest")
            await publish_unserved(w, 3_000)
            await looked_at(w, 3_000)
            assert w.version == 2_000
        await until(lambda: w.version == 1_000)


@pytest.mark.parametrize("version", [1_000, 2_000, 2_001])
async def test_with_everything_away_the_last_known_pin_holds(world: WorldFactory, version: int) -> None:
    # Of the two that came before the last one was saved to disk anyway; the last one ranks already when it is pinned.
    async with kept(world) as w:
        await w.publish(2_001)
        await call(w, "POST", f"snapshots/{version}/pin")
        pinned = await scores(w)
        name = w.serving.watcher.name_of(version)
    dead, gone = MemorySnapshotStore(), MemoryModelStore()
    dead.available = gone.available = False
    async with world(snapshots=dead, models=gone) as w:
        assert await scores(w) == pinned
        assert w.serving.watcher.name_of(w.version) == name
        # Redis comes back empty with a learner that starts anew, SQL stays away: what is published has to wait.
        dead.available = True
        await publish_unserved(w, 900)
        await looked_at(w, 900)
        assert w.version == version
        # SQL comes back and knows of no pin.
        gone.available = True
        await until(lambda: w.version == 900)


async def test_a_pin_taken_away_while_a_worker_was_down_does_not_hold_it(world: WorldFactory) -> None:
    async with kept(world) as w:
        await change(w, "friday")
        kept_stores = stores(w)
    await kept_stores["models"].unpin(ModelChange("unpin", "friday", "a", "r", 1))
    async with world(**kept_stores) as w:
        await until(lambda: w.version == 2_000)


async def test_what_redis_tells_late_is_checked_with_sql(world: WorldFactory) -> None:
    async with kept(world) as w:
        stale = Pin("friday", 1_000, "x", 1, "a")
        await w.snapshots.mirror(stale, [])
        await until(lambda: w.snapshots._pin == UNPINNED)
        assert w.version == 2_000


async def test_a_blob_that_redis_spoiled_comes_from_sql(world: WorldFactory) -> None:
    async with kept(world) as w:
        meta, blob = w.snapshots._kept[1_000]
        w.snapshots._kept[1_000] = (meta, blob[:-1] + bytes([blob[-1] ^ 1]))
        await change(w, "friday")
        assert w.version == 1_000
        assert rejections(w, "sha256") == 0


async def test_a_pinned_snapshot_that_fails_a_check_keeps_the_old_one_and_says_so(world: WorldFactory) -> None:
    async with kept(world) as w:
        meta, blob = flipped(random_snapshot((1, 2, 3), VECTOR, seed=5))
        bad = dataclasses.replace(meta, version=1_500)
        await w.models.keep("bad", bad, blob, ModelChange("keep", "bad", "a", "r", 1))
        pin = await w.models.pin("bad", ModelChange("pin", "bad", "a", "r", 2))
        await w.snapshots.mirror(pin, [])  # as another worker, of another build, would
        await until(lambda: rejections(w, "sha256") == 1)
        assert (w.version, (await names(w))[1]) == (2_000, "latest")
        assert "bad" in (await call(w, "GET", "model/list"))["message"]
        await publish_unserved(w, 3_000)
        await looked_at(w, 3_000)
        await w.serving.pins.refresh()
        assert w.version == 2_000
        await call(w, "DELETE", "snapshots/pin")
        assert (w.version, rejections(w, "sha256")) == (3_000, 1)


async def test_of_many_changes_at_once_all_workers_end_with_the_same(world: WorldFactory) -> None:
    async with kept(world) as w, world(**stores(w)) as other:
        calls = [change(each, name) for name in ("friday", "latest") * 4 for each in (w, other)]
        await asyncio.gather(*calls)
        pin = await w.models.pinned()
        for each in (w, other):
            await obeys(each, pin)


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"{}x", b'{"nome": 1}', b"[1]"])
def test_a_damaged_file_is_no_pin(tmp_path: Path, damaged: bytes) -> None:
    files = LastGood(tmp_path, "moard")
    pin = Pin("friday", 1_000, "a", 1, "b")
    assert files.load_pin() == UNPINNED
    files.save_pin(pin)
    assert LastGood(tmp_path, "moard").load_pin() == pin
    (tmp_path / "moard.pin").write_bytes(damaged)
    assert files.load_pin() == UNPINNED
