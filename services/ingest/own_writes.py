"""What ingest writes into histories itself, so that the projector beside it need not do the same work again."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from libs.adapters.ports import Record

_CAPACITY: Final = 50_000  # a few seconds at full speed, longer than the projector lags; about 10 MB
_PATIENCE_S: Final = 1.0  # for a write that is on its way; longer, and writing once more is the lesser evil

Claim = asyncio.Future[bool]
"""Resolves to whether the histories contain the claimed records."""


class OwnWrites:
    """Records that this process appends and writes into histories, by a 64-bit hash of their value.

    Equal bytes are the same event, so a value that was sent twice is rightly one. What is forgotten too early, or was
    never settled, is projected once more, which changes nothing; nothing is committed before it is written.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._young: dict[int, Claim] = {}
        self._old: dict[int, Claim] = {}

    def claim(self, values: Iterable[bytes]) -> Claim:
        """Announce that these are about to be appended and written."""
        claim: Claim = asyncio.get_running_loop().create_future()
        # SipHash under a key of this process: nobody can make two values collide.
        self._young.update((hash(value), claim) for value in values)
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        return claim

    def settle(self, claim: Claim, written: bool, lost: Iterable[bytes] = ()) -> None:
        """Say what became of a claim; ``lost`` values may still reach the log, and nobody wrote them."""
        for value in lost:
            self._young.pop(hash(value), None)
            self._old.pop(hash(value), None)
        if not claim.done():
            claim.set_result(written)

    async def others(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that are not in the histories already, waiting for writes that are on their way."""
        claims = {claim for record in records if (claim := self._of(record)) is not None and not claim.done()}
        if claims:
            await asyncio.wait(claims, timeout=_PATIENCE_S)
        return [record for record in records if not self._written(record)]

    def _of(self, record: Record) -> Claim | None:
        value = hash(record.value)
        return self._young.get(value) or self._old.get(value)

    def _written(self, record: Record) -> bool:
        claim = self._of(record)
        return claim is not None and claim.done() and claim.result()
