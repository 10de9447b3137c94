"""Connections to the SQL database, each call within a deadline, every failure to answer one error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from libs.errors import StoreUnavailable

_RECYCLE_S: Final = 1_800  # below MySQL's wait_timeout of 8 h and what firewalls allow


class SqlSessions:
    """A small pool of its own, so that slow questions never hold up others.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``mysql+asyncmy://…`` or ``sqlite+aiosqlite://…``.
    deadline_s
        Of one session, with everything asked in it, unless the session has its own.
    """

    def __init__(self, url: str, deadline_s: float, pool_size: int = 2) -> None:
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": _RECYCLE_S}
        if make_url(url).get_backend_name() == "sqlite":
            options["connect_args"] = {"timeout": deadline_s / 2}  # how long to wait for another process's write
        else:
            options |= {"pool_size": pool_size, "pool_timeout": deadline_s, "connect_args": {"connect_timeout": 2}}
        self.engine = create_async_engine(url, **options)
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def session(self, deadline_s: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Connect; what was not committed inside is taken back. Raises ``StoreUnavailable``."""
        try:
            async with asyncio.timeout(deadline_s or self._deadline_s), self.engine.connect() as connection:
                yield connection
        except (TimeoutError, OSError, DBAPIError, PoolTimeout) as error:
            # Not the error itself: it quotes the statement with its values, digests of keys among them.
            raise StoreUnavailable(f"the database did not answer: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()
