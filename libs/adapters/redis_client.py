"""How moard talks to Redis: no call hangs, and a failure is a ``StoreUnavailable``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from libs.errors import StoreUnavailable

DEADLINE_S: Final = 2.0  # a ranking degrades rather than wait longer (streaming.md F9)
_SOCKET_S: Final = 1.5  # above the 1 s for which a reader blocks on the stream
_CONNECTIONS: Final = 64  # callers beyond wait for one; the plain pool refuses the hundred-and-first at once


def connect(url: str) -> Any:
    """Return a client. One retry, because pooled connections are stale after a restart of Redis.

    Untyped: redis-py types every answer as ``bytes | str``, whatever ``decode_responses`` says. Here it is bytes.
    """
    pool: Any = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=DEADLINE_S,
        socket_timeout=_SOCKET_S,
        socket_connect_timeout=1.0,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def reaching_redis(deadline_s: float = DEADLINE_S) -> AsyncIterator[None]:
    """Turn what goes wrong inside, and the passing of the deadline, into ``StoreUnavailable``."""
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except (TimeoutError, OSError, RedisError) as error:
        raise StoreUnavailable(f"Redis did not answer: {error!r}") from error
