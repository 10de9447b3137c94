"""The status board on Redis: one key for each instance, which expires, and an index of their names."""

import time
from typing import Final

from libs.adapters.redis_client import connect, reaching_redis
from libs.adapters.status import STATUS_TTL_S, Posted

_DEADLINE_S: Final = 1.0  # the next status is due by then
_FORGOTTEN_S: Final = 3_600.0  # names stay in the index for longer than any two clocks differ


class RedisStatusBoard:
    """Everything a reader needs comes in two round trips, however many other keys there are."""

    def __init__(self, url: str, ttl_s: float = STATUS_TTL_S, prefix: str = "status") -> None:
        self._redis = connect(url)
        self._ttl_ms = int(ttl_s * 1_000)
        self._prefix = prefix
        self._index = f"{prefix}:index"

    async def put(self, service: str, instance: str, status: bytes) -> None:
        """Replace an instance's status."""
        now_s = time.time()
        async with reaching_redis(_DEADLINE_S):
            await (
                self._redis.pipeline(transaction=False)
                .set(self._key(f"{service}:{instance}"), status, px=self._ttl_ms)
                .zadd(self._index, {f"{service}:{instance}": now_s})
                .zremrangebyscore(self._index, "-inf", now_s - _FORGOTTEN_S)
                .execute()
            )

    async def remove(self, service: str, instance: str) -> None:
        """Take an instance's status away."""
        async with reaching_redis(_DEADLINE_S):
            await (
                self._redis.pipeline(transaction=False)
                .unlink(self._key(f"{service}:{instance}"))
                .zrem(self._index, f"{service}:{instance}")
                .execute()
            )

    async def all(self) -> list[Posted]:
        """Return what has not expired."""
        async with reaching_redis(_DEADLINE_S):
            names = sorted(name.decode() for name in await self._redis.zrange(self._index, 0, -1))
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.get(self._key(name)).pttl(self._key(name))
            answers = await pipeline.execute() if names else []
        found = zip(names, answers[::2], answers[1::2], strict=True)
        return [self._posted(name, status, left_ms) for name, status, left_ms in found if status is not None]

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _posted(self, name: str, status: bytes, left_ms: int) -> Posted:
        service, _, instance = name.partition(":")
        return Posted(service, instance, status, max(0, self._ttl_ms - max(0, left_ms)) / 1_000)

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"
