"""Waiting for a store that is away, without losing what was to be written."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT")

_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0)  # short: histories shall be back within seconds of their store


async def patiently(
    what: str, action: Callable[[], Awaitable[AnswerT]], backoff_s: tuple[float, ...] = _BACKOFF_S
) -> AnswerT:
    """Return what the action returns, trying again for as long as it raises ``StoreUnavailable``.

    The last of ``backoff_s`` is the pause between all later attempts.
    """
    failures = 0
    while True:
        try:
            answer = await action()
        except StoreUnavailable as error:
            if failures == 0:
                log.warning(f"{what}.waiting", error=str(error))
            await asyncio.sleep(backoff_s[min(failures, len(backoff_s) - 1)])
            failures += 1
        else:
            if failures:
                log.info(f"{what}.resumed", failures=failures)
            return answer
