"""Model administration over HTTP: list, keep, change, pin, delete, lineage, audit log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from libs.adapters.model_ports import UNPINNED, ModelChange
from libs.adapters.ports import SnapshotMeta
from libs.errors import ModelConflict, NoSnapshot
from services.serving.app import create_app
from tests.snapshots import random_snapshot
from tests.unit.serving.test_model_watcher import flipped
from tests.unit.serving.world import VECTOR, World, WorldFactory, meta_of, until, vector

PAGE = "http://localhost:3000"
IDS = (1, 2, 3)
BULK = {"user_embedding": vector(1), "content_embeddings": [vector(2), vector(3), vector(4)]}
NO_NAMES = ["", "/etc/passwd", "../x", "a/b", "a\0", ".", "..", "-a", "x" * 65, "latest\n", "ä", "a b", "C:\\x"]


async def call(w: World, method: str, path: str, status: int = 200, **options: Any) -> Any:
    answer = await w.client.request(method, f"/api/v1/{path}", **options)
    assert answer.status_code == status, answer.text
    return answer.json()


async def change(w: World, name: str, status: int = 200) -> Any:
    return await call(w, "POST", "model/change", status, params={"model_name": name})


async def scores(w: World) -> list[float]:
    values: list[float] = (await call(w, "POST", "predict/bulk", json=BULK))["q_values"]
    return values


async def names(w: World) -> tuple[list[str], str]:
    listed = await call(w, "GET", "model/list")
    assert isinstance(listed["message"], str)
    return listed["models"], listed["current_model"]


@asynccontextmanager
async def kept(world: WorldFactory, **given: Any) -> AsyncIterator[World]:
    """Serving with snapshot 1000 kept as ``friday`` and 2000 in use."""
    async with world(serving_snapshot_poll_ms=10, **given) as w:
        await w.publish(1_000)
        await call(w, "POST", "snapshots/1000/keep", params={"name": "friday"})
        await w.publish(2_000)
        yield w


async def test_list_names_latest_and_what_is_kept(world: WorldFactory) -> None:
    async with world() as w:
        assert await names(w) == (["latest"], "latest")
    async with kept(world) as w:
        assert await names(w) == (["latest", "friday"], "latest")


async def test_a_change_changes_the_scores_and_back_bit_by_bit(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish(1_000)
        old = await scores(w)
        await call(w, "POST", "snapshots/1000/keep", params={"name": "friday"})
        await w.publish(2_000)
        new = await scores(w)
        assert (await change(w, "friday"))["model_name"] == "friday"
        assert await scores(w) == old != new
        assert await names(w) == (["latest", "friday"], "friday")
        assert (await change(w, "latest"))["model_name"] == "latest"
        assert await scores(w) == new
        assert (await names(w))[1] == "latest"


async def test_top_contents_names_the_model_that_list_calls_current(world: WorldFactory) -> None:
    user = "5f2b1f3e-8a55-4f4e-9d0a-0a8f6d2b4b11"
    async with kept(world) as w:
        await w.history.mark_seen([user])
        w.store.available = False  # nobody can say that the contents are unknown: they are ranked
        for name, version in (("friday", 1_000), ("latest", 2_000)):
            await change(w, name)
            body = {"user_id": user, "content_ids": [1, 2]}
            found = await call(w, "POST", "predict/top-contents", json=body)
            assert (found["model_name"], found["snapshot_version"]) == (name, version)
            assert (await names(w))[1] == name


@pytest.mark.parametrize("name", NO_NAMES)
async def test_what_cannot_be_a_name_is_refused(world: WorldFactory, name: str) -> None:
    async with kept(world) as w:
        answer = await change(w, name, 422)
        assert answer["detail"][0]["loc"] == ["query", "model_name"]
        await call(w, "POST", "snapshots/1000/keep", 422, params={"name": name})
        assert await names(w) == (["latest", "friday"], "latest")


async def test_change_to_what_is_not_there(world: WorldFactory) -> None:
    async with kept(world) as w:
        assert isinstance((await change(w, "Friday", 404))["detail"], str)
        await call(w, "POST", "model/change", 422)
        assert (await names(w))[1] == "latest"


class TestDelete:
    @pytest.mark.parametrize("prefix", ["", "models/"])
    async def test_a_kept_one(self, world: WorldFactory, prefix: str) -> None:
        async with kept(world) as w:
            answer = await call(w, "DELETE", f"model/{prefix}friday")
            assert answer["deleted_path"] == "models/friday"
            assert isinstance(answer["message"], str)
            assert await names(w) == (["latest"], "latest")
            await call(w, "DELETE", f"model/{prefix}friday", 404)

    async def test_one_in_use(self, world: WorldFactory) -> None:
        async with kept(world) as w:
            await change(w, "friday")
            assert "pinned" in (await call(w, "DELETE", "model/friday", 409))["detail"]
            await call(w, "DELETE", "model/latest", 409)
            assert await names(w) == (["latest", "friday"], "friday")

    @pytest.mark.parametrize("name", ["%2E%2E/state", "models/%2E%2E/%2E%2E/x", "/etc/passwd", "%00", "", "a%2Fb"])
    async def test_never_a_file(self, world: WorldFactory, tmp_path: Path, name: str) -> None:
        async with kept(world) as w:
            folder = Path(w.settings.state_path)
            await until((folder / "serving" / "moard.snapshot").exists)
            before = _files(tmp_path)
            answer = await w.client.delete(f"/api/v1/model/{name}")
            assert 400 <= answer.status_code < 500
            assert _files(tmp_path) == before
            assert (await names(w))[0] == ["latest", "friday"]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


class TestPinByVersion:
    async def test_holds_until_it_is_taken_away(self, world: WorldFactory) -> None:
        async with world(serving_snapshot_poll_ms=10) as w:
            await w.publish(1_000)
            old = await scores(w)
            await w.publish(2_000)
            pinned = await call(w, "POST", "snapshots/1000/pin")
            assert (pinned["model_name"], pinned["snapshot_version"]) == ("snapshot-1000", 1_000)
            assert await names(w) == (["latest", "snapshot-1000"], "snapshot-1000")
            assert await scores(w) == old
            assert (await call(w, "DELETE", "snapshots/pin"))["snapshot_version"] == 2_000
            assert (await call(w, "DELETE", "snapshots/pin"))["model_name"] == "latest"
            assert await names(w) == (["latest", "snapshot-1000"], "latest")

    async def test_uses_the_name_that_somebody_gave(self, world: WorldFactory) -> None:
        async with kept(world) as w:
            assert (await call(w, "POST", "snapshots/1000/pin"))["model_name"] == "friday"

    @pytest.mark.parametrize(
        ("version", "status"), [("1500", 404), ("0", 422), ("-1", 422), ("x", 422), (str(2**63), 422), ("1.5", 422)]
    )
    async def test_of_none_that_is_there(self, world: WorldFactory, version: str, status: int) -> None:
        async with kept(world) as w:
            await call(w, "POST", f"snapshots/{version}/pin", status)
            await call(w, "POST", f"snapshots/{version}/keep", status, params={"name": "a"})


async def test_a_snapshot_that_cannot_rank_is_neither_kept_nor_pinned(world: WorldFactory) -> None:
    async with kept(world) as w:
        await w.snapshots.publish(*_with_version(3_000))
        for path in ("snapshots/3000/pin", "snapshots/3000/keep?name=bad"):
            assert "sha256" in (await call(w, "POST", path, 409))["detail"]
        assert await names(w) == (["latest", "friday"], "latest")
        assert w.version == 2_000


def _with_version(version: int) -> tuple[SnapshotMeta, bytes]:
    snapshot = random_snapshot(IDS, VECTOR, seed=version)
    meta, blob = flipped(snapshot)
    return meta_of(snapshot, blob, version, sha256=meta.sha256), blob


async def test_what_was_kept_by_another_build_is_checked_before_it_is_pinned(world: WorldFactory) -> None:
    async with kept(world) as w:
        meta, blob = _with_version(1_500)
        await w.models.keep("bad", meta, blob, ModelChange("keep", "bad", "a", "r", 1))
        assert "sha256" in (await change(w, "bad", 409))["detail"]
        assert await w.models.pinned() == UNPINNED


async def test_what_redis_lost_can_be_kept_again_from_sql(world: WorldFactory) -> None:
    async with kept(world) as w:
        w.snapshots.clear()
        await call(w, "POST", "snapshots/1000/keep", params={"name": "saturday"})
        await call(w, "DELETE", "model/friday")
        assert (await change(w, "saturday"))["snapshot_version"] == 1_000
        assert w.version == 1_000


async def test_names_that_moard_gives_cannot_be_taken(world: WorldFactory) -> None:
    async with kept(world) as w:
        for name in ("latest", "snapshot-2000", "snapshot-x", "friday"):
            await call(
                w,
                "POST",
                "snapshots/2000/keep" if name == "friday" else "snapshots/1000/keep",
                409,
                params={"name": name},
            )
        await call(w, "POST", "snapshots/1000/keep", params={"name": "snapshot-1000"})


class TestKeep:
    """What other parts of serving call."""

    async def test_keeps_the_newest_also_while_another_is_pinned(self, world: WorldFactory) -> None:
        async with kept(world) as w:
            await change(w, "friday")
            assert await w.serving.models.keep("trained-1", "key-1", "r") == 2_000
            assert (await change(w, "trained-1"))["snapshot_version"] == 2_000
            assert w.version == 2_000

    async def test_refuses_what_http_refuses(self, world: WorldFactory) -> None:
        async with world() as w:
            with pytest.raises(NoSnapshot):
                await w.serving.models.keep("a", "key-1", "r")
            await w.publish(1_000)
            with pytest.raises(ValueError, match="name"):
                await w.serving.models.keep("../a", "key-1", "r")
            with pytest.raises(ModelConflict):
                await w.serving.models.keep("latest", "key-1", "r")


async def test_lineage(world: WorldFactory) -> None:
    async with kept(world) as w:
        for version in range(2_001, 2_012):
            await w.publish(version, step=version)
        await change(w, "friday")
        w.snapshots._kept.pop(1_000)  # an emptied store has only what was published since
        found = await call(w, "GET", "snapshots")
        assert (found["pinned"], found["pinned_by"], found["served_version"]) == ("friday", "anonymous", 1_000)
        lines = found["snapshots"]
        assert [line["version"] for line in lines] == [*range(2_011, 2_001, -1), 1_000]
        newest, oldest = lines[0], lines[-1]
        assert (newest["step"], newest["epoch"], newest["names"]) == (2_011, 1, [])
        flags = ("stored", "current", "pinned", "served")
        assert [newest[flag] for flag in flags] == [True, True, False, False]
        assert [oldest[flag] for flag in flags] == [False, False, True, True]
        assert (oldest["names"], oldest["offsets"]) == (["friday"], {})
        assert oldest["size_bytes"] > 1_000
        assert oldest["age_s"] == pytest.approx(lines[0]["age_s"], rel=0.01)


async def test_the_audit_log_tells_who_changed_what(world: WorldFactory) -> None:
    async with world() as w:
        await w.publish(1_000)
        app = create_app(w.serving)

        async def keyed(scope: Any, receive: Any, send: Any) -> None:
            await app(scope | {"moard.key": SimpleNamespace(id="ops-1")}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(keyed), base_url="http://x/api/v1/") as ops:
            headers = {"x-request-id": "r-1"}
            assert (await ops.post("snapshots/1000/pin", headers=headers)).status_code == 200
            assert (await ops.delete("snapshots/pin", headers=headers)).status_code == 200
        await call(w, "DELETE", "snapshots/pin")  # nothing was pinned: nothing changed
        await call(w, "DELETE", "model/snapshot-1000")
        await call(w, "DELETE", "model/snapshot-1000", 404)
        entries = (await call(w, "GET", "snapshots/changes"))["changes"]
        told = [(entry["action"], entry["subject"], entry["actor"]) for entry in entries]
        assert told == [
            ("delete", "snapshot-1000", "anonymous"),
            ("unpin", "snapshot-1000", "ops-1"),
            ("pin", "snapshot-1000", "ops-1"),
            ("keep", "snapshot-1000", "ops-1"),
        ]
        assert {entry["request_id"] for entry in entries[1:]} == {"r-1"}
        assert entries[0]["at_ms"] >= entries[-1]["at_ms"] > 1.7e12
        assert len((await call(w, "GET", "snapshots/changes?limit=2"))["changes"]) == 2
        await call(w, "GET", "snapshots/changes?limit=0", 422)


class TestOutages:
    CALLS = (
        ("GET", "model/list"),
        ("POST", "model/change?model_name=friday"),
        ("POST", "model/change?model_name=latest"),
        ("DELETE", "model/friday"),
        ("GET", "snapshots"),
        ("GET", "snapshots/changes"),
        ("POST", "snapshots/1000/keep?name=a"),
        ("POST", "snapshots/2000/pin"),
        ("DELETE", "snapshots/pin"),
    )

    @pytest.mark.parametrize(("method", "path"), CALLS)
    async def test_without_sql_it_says_when_to_come_back(self, world: WorldFactory, method: str, path: str) -> None:
        async with kept(world) as w:
            w.models.available = False
            answer = await w.client.request(method, f"/api/v1/{path}", headers={"origin": PAGE})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert isinstance(answer.json()["detail"], str)
            ranked = await call(w, "POST", "rank", json={"user_id": "ann", "candidates": [1, 2]})
            assert ranked["snapshot_version"] == 2_000

    async def test_without_redis_what_is_kept_can_still_be_pinned(self, world: WorldFactory) -> None:
        async with kept(world) as w:
            w.snapshots.available = False
            await change(w, "friday")
            assert w.version == 1_000
            assert await names(w) == (["latest", "friday"], "friday")
            await call(w, "POST", "snapshots/2000/pin", 503)
            w.snapshots.available = True
            await until(lambda: w.snapshots._pin == w.serving.watcher.pin)


async def test_every_answer_is_documented(world: WorldFactory) -> None:
    async with world() as w:
        spec = (await w.client.get("/openapi.json")).json()
    for path, item in spec["paths"].items():
        if "/model/" in path or "/snapshots" in path:
            for method, operation in item.items():
                wanted = {"200", "503"} | ({"404", "409", "422"} if method != "get" and "{" in path else set())
                assert wanted <= operation["responses"].keys(), (method, path)
                assert "$ref" in operation["responses"]["200"]["content"]["application/json"]["schema"]
