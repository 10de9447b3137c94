"""Looks out for training tasks, and has somebody work on them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog

from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

POLL_S: Final = 2.0  # between two looks, should nobody have said that there is a task

Turn: TypeAlias = Callable[[], Awaitable[bool]]
"""Works on the oldest task until it ends; False when there is none, or another process is at it."""


class Lookout:
    """Takes turns at tasks: the next at once after there was one, otherwise when woken, or after a while."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for a task now."""
        self._wake.set()

    async def run(self) -> None:
        """Look out until cancelled; a store that is away is waited for."""
        while True:
            try:
                if await self._turn():
                    continue
            except StoreUnavailable as error:
                log.warning("training.store_unavailable", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):  # wait_for may lose a cancellation in 3.11
                    await self._wake.wait()
            self._wake.clear()


async def until_none_is_left(turn: Turn) -> None:
    """Take turns until there is no task to work on; a store that is away is waited for."""
    while True:
        try:
            if not await turn():
                return
        except StoreUnavailable as error:
            log.warning("training.store_unavailable", error=str(error))
            await asyncio.sleep(POLL_S)
