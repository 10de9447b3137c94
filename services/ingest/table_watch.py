"""Which rows of the content table are new, changed or gone: by fingerprints, since the backend's rows have no time.

The database hashes a row where it lies and sends some 40 octets of it, not its 8 kB.
"""

from collections.abc import Iterable

from libs.adapters.ports import ContentStore

Changes = dict[int, int]
"""Fingerprint of each row that is not settled, by content id."""


class TableWatch:
    """Pages through the fingerprints of all contents, again and again.

    A row that differs is reported by each look until ``settle`` is told that it was dealt with.

    Parameters
    ----------
    page
        Rows in one query.
    """

    def __init__(self, contents: ContentStore, page: int) -> None:
        self._contents = contents
        self._page = page
        self._settled: Changes = {}
        self._highest = -1
        self._cursor = -1
        self._swept: set[int] = set()

    async def new(self) -> Changes:
        """Return the rows above the highest id seen so far, where new ones appear. Raises ``StoreUnavailable``."""
        found: Changes = {}
        while True:
            rows = await self._contents.fingerprints(self._highest, self._page)
            found |= rows
            self._highest = max((self._highest, *(content_id for content_id, _ in rows)))
            if len(rows) < self._page:
                return self._unsettled(found)

    async def next_page(self) -> tuple[Changes, bool]:
        """Return what differs on the next page, and whether it was the last one. Raises ``StoreUnavailable``."""
        rows = await self._contents.fingerprints(self._cursor, self._page)
        self._swept.update(content_id for content_id, _ in rows)
        last = len(rows) < self._page
        self._cursor = -1 if last else rows[-1][0]
        return self._unsettled(dict(rows)), last

    def end_sweep(self, announced: Iterable[int]) -> set[int]:
        """Return the contents, settled or announced, that no page since the last call had."""
        gone = {*self._settled, *announced} - self._swept
        self._swept = set()
        return gone

    def settle(self, rows: Changes) -> None:
        """Report these no more, until they change again."""
        self._settled |= rows

    def unsettle(self, content_ids: Iterable[int]) -> None:
        """Report these again although they did not change."""
        for content_id in content_ids:
            self._settled.pop(content_id, None)

    def __len__(self) -> int:
        return len(self._settled)

    def _unsettled(self, rows: Changes) -> Changes:
        return {content_id: value for content_id, value in rows.items() if self._settled.get(content_id) != value}
