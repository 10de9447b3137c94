"""Snapshots on Redis (streaming.md §5)."""

import time
from collections.abc import Collection, Mapping
from typing import Final

import orjson

from libs.adapters.model_ports import Pin
from libs.adapters.ports import SnapshotMeta
from libs.adapters.redis_client import DEADLINE_S, connect, reaching_redis
from libs.adapters.snapshot_retention import superseded
from libs.errors import Fenced, NoSnapshot, SnapshotRejected, StoreUnavailable
from libs.failpoints import passing

_POLL_S: Final = 1.0  # the slow path, should the stream miss something
_STAGED_S: Final = 600  # what a publisher staged and never published, because it died or was fenced, goes by itself
_LOG_LENGTH: Final = 1_000
_PIN_LOG_LENGTH: Final = 100

_CLAIM: Final = """
local epoch = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) + 1, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], epoch)
return epoch
"""

# One atomic step: nobody sees a blob whose publisher was refused, nor a pointer without its blob.
_PUBLISH: Final = """
local current, epochs, meta, blob, staged, versions, log, kept = unpack(KEYS)
local version, epoch, sha256, log_length = unpack(ARGV)
local held = redis.call('HMGET', current, 'version', 'epoch', 'sha256')
if held[1] == version and held[2] == epoch and held[3] == sha256 then
  return {'published'}
end
local newest = math.max(tonumber(redis.call('GET', epochs) or 0), tonumber(held[2] or 0))
if tonumber(epoch) < newest then
  return {'epoch', tostring(newest)}
end
if tonumber(version) <= (tonumber(held[1] or -1) or -1) then  -- a pointer that is no number holds nothing
  return {'version', held[1]}
end
if redis.call('EXISTS', staged) == 0 then
  return {'lost'}
end
redis.call('RENAME', staged, blob)
redis.call('PERSIST', blob)
redis.call('DEL', meta)
redis.call('HSET', meta, unpack(ARGV, 5))
redis.call('SET', epochs, epoch)
redis.call('HSET', current, 'version', version, 'epoch', epoch, 'sha256', sha256)
redis.call('ZADD', versions, version, version)
redis.call('XADD', log, 'MAXLEN', '~', log_length, '*', 'version', version, 'epoch', epoch)
local expendable = {'published'}
for _, stored in ipairs(redis.call('ZRANGE', versions, 0, -1)) do
  if redis.call('SISMEMBER', kept, stored) == 0 then
    table.insert(expendable, stored)
  end
end
return expendable
"""


class RedisSnapshotStore:
    """Immutable blobs and one pointer, under ``snap:{model}:…``.

    Publishing the same snapshot again, after an answer was lost, succeeds. An emptied Redis has forgotten the epochs:
    ``claim_epoch`` takes the last one known elsewhere.
    """

    def __init__(self, url: str, model: str) -> None:
        self._redis = connect(url)
        self._prefix = f"snap:{model}:"
        self._claim = self._redis.register_script(_CLAIM)
        self._publish = self._redis.register_script(_PUBLISH)

    async def claim_epoch(self, at_least: int) -> int:
        """Return a new epoch; publishers with a lower one are fenced from now on."""
        async with reaching_redis():
            return int(await self._claim(keys=[self._key("epoch")], args=[at_least]))

    async def publish(self, meta: SnapshotMeta, blob: bytes) -> None:
        """Store the blob, then swap the pointer; raises ``Fenced`` when epoch or version forbid it."""
        staged = f"staged:{meta.sha256}"
        keys = ["current", "epoch", f"meta:{meta.version}", str(meta.version), staged, "versions", "log", "kept"]
        fields = [part for field in _fields(meta).items() for part in field]
        async with reaching_redis():
            passing("snapshot.before_blob")
            await self._redis.set(self._key(staged), blob, ex=_STAGED_S)
            passing("snapshot.before_swap")
            verdict, *details = await self._publish(
                keys=[self._key(key) for key in keys],
                args=[meta.version, meta.epoch, meta.sha256, _LOG_LENGTH, *fields],
            )
            passing("snapshot.after_swap")
            if verdict == b"published":
                await self._drop(superseded(int(version) for version in details))
                return
            await self._redis.unlink(self._key(staged))
        if verdict == b"lost":
            raise StoreUnavailable(f"Redis lost snapshot {meta.version} before it was published")
        raise Fenced(
            f"snapshot {meta.version} of epoch {meta.epoch} was refused: {verdict.decode()} {details[0].decode()} "
            "holds the pointer"
        )

    async def current(self) -> SnapshotMeta | None:
        """Return what the pointer names, None when it names nothing."""
        async with reaching_redis():
            version = await self._redis.hget(self._key("current"), "version")
            if version is None:
                return None
            if not version.isdigit():
                raise SnapshotRejected("header", f"the pointer names version {version!r}, which is no number")
            return _meta(await self._redis.hgetall(self._key(f"meta:{int(version)}")))

    async def load(self, version: int) -> tuple[SnapshotMeta, bytes]:
        """Return one kept version; raises ``NoSnapshot`` when it is gone."""
        async with reaching_redis(), self._redis.pipeline() as pipeline:
            pipeline.hgetall(self._key(f"meta:{version}"))
            pipeline.get(self._key(str(version)))
            fields, blob = await pipeline.execute()
        meta = _meta(fields)
        if meta is None or blob is None:
            raise NoSnapshot(f"snapshot {version} is not kept")
        return meta, blob

    async def versions(self) -> list[int]:
        """Return the kept versions, newest first."""
        async with reaching_redis():
            found = await self._redis.zrange(self._key("versions"), 0, -1)
        return sorted(map(int, found), reverse=True)

    async def wait(self, after_version: int, timeout_s: float) -> SnapshotMeta | None:
        """Return the current meta as soon as its version differs, None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = await self._last_entry("log")  # before looking at the pointer: what is published in between wakes us
            meta = await self.current()
            if meta is not None and meta.version != after_version:
                return meta
            if (left_s := deadline - time.monotonic()) <= 0:
                return None
            block_ms = max(1, int(min(left_s, _POLL_S) * 1_000))
            async with reaching_redis(DEADLINE_S):
                await self._redis.xread({self._key("log"): seen}, block=block_ms)

    async def mirror(self, pin: Pin, kept: Collection[int]) -> None:
        """Tell every reader what is pinned, and exempt versions from retention in place of those told before."""
        async with reaching_redis(), self._redis.pipeline() as pipeline:
            pipeline.set(self._key("pin"), orjson.dumps(pin))
            pipeline.unlink(self._key("kept"))
            if kept:
                pipeline.sadd(self._key("kept"), *kept)
            pipeline.xadd(self._key("pins"), {"name": pin.name or ""}, maxlen=_PIN_LOG_LENGTH, approximate=True)
            await pipeline.execute()

    async def mirrored(self) -> Pin | None:
        """Return the pin as it was told last; None when it is not there, or cannot be read."""
        async with reaching_redis():
            told = await self._redis.get(self._key("pin"))
        try:
            return None if told is None else Pin(**orjson.loads(told))
        except (orjson.JSONDecodeError, TypeError):
            return None  # whoever has the truth writes it again

    async def wait_mirrored(self, known: Pin | None, timeout_s: float) -> Pin | None:
        """Return the pin as soon as it differs from ``known``, at the latest after the timeout (or a second)."""
        seen = await self._last_entry("pins")  # before looking at the pin, as in ``wait``
        if (pin := await self.mirrored()) != known:
            return pin
        block_ms = max(1, int(min(timeout_s, _POLL_S) * 1_000))
        async with reaching_redis(DEADLINE_S):
            await self._redis.xread({self._key("pins"): seen}, block=block_ms)
        return await self.mirrored()

    async def metas(self) -> list[SnapshotMeta]:
        """Return what was published beside each stored snapshot, newest version first; unreadable ones are left out."""
        async with reaching_redis(), self._redis.pipeline() as pipeline:
            for version in await self.versions():
                pipeline.hgetall(self._key(f"meta:{version}"))
            found = await pipeline.execute()
        return [meta for fields in found if (meta := _readable(fields)) is not None]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _last_entry(self, log: str) -> bytes:
        async with reaching_redis():
            entries = await self._redis.xrevrange(self._key(log), count=1)
        entry: bytes = entries[0][0] if entries else b"0-0"
        return entry

    async def _drop(self, versions: list[int]) -> None:
        if not versions:
            return
        async with self._redis.pipeline() as pipeline:
            pipeline.unlink(*(self._key(f"{kind}{version}") for version in versions for kind in ("", "meta:")))
            pipeline.zrem(self._key("versions"), *versions)
            await pipeline.execute()

    def _key(self, name: str) -> str:
        return self._prefix + name


def _fields(meta: SnapshotMeta) -> dict[str, str | int | bytes]:
    return {
        "version": meta.version,
        "epoch": meta.epoch,
        "step": meta.step,
        "sha256": meta.sha256,
        "size_bytes": meta.size_bytes,
        "created_ms": meta.created_ms,
        "format": meta.format,
        "arch": meta.arch,
        "offsets": orjson.dumps(dict(meta.offsets)),
        "trained": orjson.dumps(meta.trained),
        "extra": orjson.dumps(dict(meta.extra)),
    }


def _readable(fields: Mapping[bytes, bytes]) -> SnapshotMeta | None:
    try:
        return _meta(fields)
    except SnapshotRejected:
        return None


def _meta(fields: Mapping[bytes, bytes]) -> SnapshotMeta | None:
    if not fields:
        return None
    try:
        return SnapshotMeta(
            version=int(fields[b"version"]),
            epoch=int(fields[b"epoch"]),
            step=int(fields[b"step"]),
            sha256=fields[b"sha256"].decode(),
            size_bytes=int(fields[b"size_bytes"]),
            created_ms=int(fields[b"created_ms"]),
            format=int(fields[b"format"]),
            arch=fields[b"arch"].decode(),
            offsets=orjson.loads(fields[b"offsets"]),
            trained=tuple((event_id, append_ms) for event_id, append_ms in orjson.loads(fields[b"trained"])),
            extra=orjson.loads(fields[b"extra"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise SnapshotRejected("header", f"unreadable metadata: {error!r}") from error
