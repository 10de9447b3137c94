"""API keys: what recognises one, and what is known of them while the table cannot be read."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from libs.adapters.keys import KeyRing, listed, new_key, scopes_of
from libs.adapters.memory import MemoryKeyStore
from libs.adapters.ports import StoredKey

NOW_MS = 1_000_000


async def ring_of(*stored: StoredKey) -> KeyRing:
    ring = KeyRing(MemoryKeyStore(stored), clock_ms=lambda: NOW_MS)
    await ring.refresh()
    return ring


async def test_a_key_is_recognised_by_its_digest_alone() -> None:
    key, stored = new_key("backend", ["rank", "ingest"])
    assert stored.digest == hashlib.sha256(key.encode()).hexdigest()
    assert key not in repr(stored)
    found = (await ring_of(stored)).find(key.encode())
    assert found is not None
    assert (found.id, found.name, found.scopes) == (stored.id, "backend", frozenset({"rank", "ingest"}))


async def test_no_two_keys_are_alike() -> None:
    made = [new_key("a", ["rank"]) for _ in range(100)]
    assert len({key for key, _ in made}) == len({stored.id for _, stored in made}) == 100
    assert all(len(key) >= 43 for key, _ in made)  # 256 random bits


async def test_what_only_looks_like_a_key_is_nobodys() -> None:
    key, stored = new_key("a", ["rank"])
    ring = await ring_of(stored)
    wrong = [
        b"",
        b"moard",
        b"moard_",
        f"moard_{stored.id}".encode(),
        f"moard_{stored.id}_".encode(),
        key[:-1].encode(),
        key.encode() + b"x",
        key.encode() + b"x" * 10_000,
        key.replace("moard_", "mmmmm_").encode(),
        stored.digest.encode(),
        f"moard_{stored.id}_{stored.digest}".encode(),
        "moard_é_ü".encode(),
        b"moard_\xff\x00_\xff",
    ]
    assert [text for text in wrong if ring.find(text) is not None] == []


async def test_the_whole_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    key, stored = new_key("a", ["rank"])
    ring, compared = await ring_of(stored), []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr("libs.adapters.keys.hmac.compare_digest", compare)
    assert ring.find(key.encode())
    assert not ring.find(b"moard_000000000000_x")  # also where there is no such id
    assert [(len(left), len(right)) for left, right in compared] == [(64, 64), (64, 64)]


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"expires_ms": NOW_MS + 1}, True),
        ({"expires_ms": NOW_MS}, False),
        ({"expires_ms": NOW_MS - 1}, False),
        ({"revoked_ms": NOW_MS + 5_000}, False),
    ],
)
async def test_expired_and_revoked_keys_end(change: dict[str, int], valid: bool) -> None:
    key, stored = new_key("a", ["rank"])
    ring = await ring_of(replace(stored, **change))  # type: ignore[arg-type]
    assert (ring.find(key.encode()) is not None) == valid
    assert ring.configured  # a table with ended keys alone does not open the doors


async def test_two_keys_are_valid_at_once_while_one_replaces_the_other() -> None:
    (old, stored_old), (new, stored_new) = new_key("a", ["rank"]), new_key("a", ["rank"])
    store = MemoryKeyStore([stored_old])
    ring = KeyRing(store)
    await store.add(stored_new)
    await ring.refresh()
    assert ring.find(old.encode())
    assert ring.find(new.encode())
    await store.revoke(stored_old.id, 1)
    await ring.refresh()
    assert not ring.find(old.encode())
    assert ring.find(new.encode())


async def test_while_the_database_is_away_the_last_known_keys_stay() -> None:
    key, stored = new_key("a", ["rank"])
    store = MemoryKeyStore([stored])
    store.available = False
    ring = KeyRing(store, refresh_s=0.001)
    running = asyncio.create_task(ring.run())
    await asyncio.sleep(0.01)
    assert not ring.known
    store.available = True
    async with asyncio.timeout(10):
        while not ring.known:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    store.available = False
    await asyncio.sleep(0.01)
    assert ring.find(key.encode())
    store.available = True
    await store.revoke(stored.id, 1)
    async with asyncio.timeout(10):
        while ring.find(key.encode()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_scopes_that_do_not_exist_are_named() -> None:
    assert scopes_of("rank,ingest") == ("rank", "ingest")
    with pytest.raises(ValueError, match="'root'"):
        scopes_of("rank,root")
    with pytest.raises(ValueError, match="at least one"):
        scopes_of(" , ")


def test_keys_are_listed_newest_first_with_their_state() -> None:
    keys = [
        StoredKey("a", "", "", (), created_ms=1),
        StoredKey("b", "", "", (), created_ms=2, expires_ms=5),
        StoredKey("c", "", "", (), created_ms=3, expires_ms=5, revoked_ms=4),
    ]
    assert [(key.id, state) for key, state in listed(keys, 5)] == [("c", "revoked"), ("b", "expired"), ("a", "valid")]
