"""Which contents are being put, so that the follower does not publish what it read just before."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Puts:
    """Contents touched by a PUT of this process since the last reading of the table.

    Without it a row that was read before a PUT could be published after it, and would stay on the topic until the next
    comparison of the whole table. (A PUT through another ingest process still has to wait for that one.)
    """

    def __init__(self) -> None:
        self._running: Counter[int] = Counter()
        self._touched: set[int] = set()

    @contextmanager
    def running(self, content_id: int) -> Iterator[None]:
        """Count a content as touched, from before its row is written until after it is announced."""
        self._running[content_id] += 1
        self._touched.add(content_id)
        try:
            yield
        finally:
            self._running[content_id] -= 1
            if not self._running[content_id]:
                del self._running[content_id]

    def begin_reading(self) -> None:
        """Forget what was put before; what is being put still counts."""
        self._touched = set(self._running)

    def __contains__(self, content_id: int) -> bool:
        """Tell whether a row read since ``begin_reading`` may be older than what was announced."""
        return content_id in self._touched
