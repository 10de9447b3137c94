"""Obeys the pin: SQL has it, Redis says when to look, and stands in where SQL is away."""

import asyncio
from collections.abc import Awaitable

import structlog

from libs.adapters.model_ports import ModelStore, Pin, ServedSnapshots
from libs.errors import StoreUnavailable
from services.serving.model_watcher import ModelWatcher

log = structlog.get_logger(__name__)

# Readers are woken by the stream. Should it have missed something, this leaves half of the second within which every
# worker obeys for loading the snapshot.
_POLL_S = 0.5
_RETRY_S = 0.5  # until what could not be done is tried again


class Pins:
    """Keeps the watcher obeying whatever is pinned, in every worker for itself.

    Notes
    -----
    SQL is asked when Redis tells of another pin than the one obeyed, when Redis has lost it or is away, and once at
    the start: in the steady state never. With SQL away the pin that Redis tells holds; with both away the last one
    known, also after a restart.
    """

    def __init__(self, snapshots: ServedSnapshots, models: ModelStore, watcher: ModelWatcher) -> None:
        self._snapshots = snapshots
        self._models = models
        self._watcher = watcher
        self._told: Pin | None = None
        self._settled = False
        self._refreshing = asyncio.Lock()

    async def run(self) -> None:
        """Obey until cancelled."""
        await self._watcher.restored.wait()  # the pin on disk, should nobody else know
        await self._settle(await self._listen(self._snapshots.mirrored()))
        while True:
            if not self._settled:
                await asyncio.sleep(_RETRY_S)
            told = await self._listen(self._snapshots.wait_mirrored(self._told, _POLL_S))
            if not self._settled or told != self._watcher.pin:
                await self._settle(told)

    async def refresh(self, told: Pin | None = None) -> None:
        """Ask SQL what is pinned, tell every worker unless they were told so, and obey.

        Raises
        ------
        StoreUnavailable
            When SQL is away. Redis may be: whoever notices that it is back tells it then.
        """
        async with self._refreshing:
            pin = await self._models.pinned()
            heard = told == pin or await self._tell(pin)
            obeyed = await self._watcher.obey(pin)
            self._settled = heard and obeyed

    async def _settle(self, told: Pin | None) -> None:
        try:
            await self.refresh(told)
        except StoreUnavailable as error:
            log.warning("pin.sql_away", error=str(error))
            self._settled = False
            await self._watcher.obey(self._watcher.pin if told is None else told)

    async def _tell(self, pin: Pin) -> bool:
        kept = {kept.meta.version for kept in await self._models.kept()}
        try:
            await self._snapshots.mirror(pin, kept)
        except StoreUnavailable as error:
            log.warning("pin.not_told", error=str(error))
            return False
        self._told = pin
        return True

    async def _listen(self, answer: Awaitable[Pin | None]) -> Pin | None:
        """Return what Redis tells, None when it has lost it or is away."""
        try:
            self._told = await answer
        except StoreUnavailable as error:
            log.warning("pin.redis_away", error=str(error))
            self._told = None
        return self._told
