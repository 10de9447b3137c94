"""What many consume of late: a short list, read again from Redis every few seconds, never during a request."""

import asyncio
from collections.abc import Sequence

import numpy as np
import structlog
from jaxtyping import Int32

from libs.adapters.ports import UserHistory
from libs.errors import StoreUnavailable
from libs.rl.action_space import ActionSpace

log = structlog.get_logger(__name__)


class Popularity:
    """Holds ``top``, ids of the contents consumed most of late, most first; empty before the first look.

    While Redis is away the last list stays: what was popular a minute ago is a good guess.
    """

    def __init__(self, history: UserHistory, *, kept: int, refresh_s: float, deadline_s: float) -> None:
        self.top: Sequence[int] = ()
        self._history = history
        self._kept = kept
        self._refresh_s = refresh_s
        self._deadline_s = deadline_s
        self._away = False
        self._indices = np.zeros(0, np.int32)
        self._indexed: tuple[Sequence[int], int] | None = None

    def indices(self, space: ActionSpace) -> Int32[np.ndarray, "C"]:
        """Return ``top`` by index of the space, padding where it has none; looked up again after changes only."""
        if self._indexed is None or self._indexed[0] is not self.top or self._indexed[1] != space.changes:
            self._indices, self._indexed = space.index(self.top), (self.top, space.changes)
        return self._indices

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._refresh_s)

    async def refresh(self) -> None:
        """Read the list once."""
        try:
            async with asyncio.timeout(self._deadline_s):
                self.top = await self._history.popular(self._kept)
        except (TimeoutError, StoreUnavailable) as error:
            if not self._away:
                log.warning("popularity.unavailable", error=repr(error), kept=len(self.top))
            self._away = True
        else:
            self._away = False
