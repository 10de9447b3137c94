"""Vectors of contents that came without a usable one, computed from their text while rankings go on."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from libs.events.schema import Content
from libs.text.vectors import TextVectors

log = structlog.get_logger(__name__)

Found = Callable[[Content, np.ndarray], None]


class MissingVectors:
    """Computes in the background, one text after the other. Belongs to the event loop.

    A content that changes in the meantime is forgotten: its older text shall not overwrite what is newer.
    """

    def __init__(self, texts: TextVectors) -> None:
        self._texts = texts
        self._wanted: dict[int, Content] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def version(self) -> str:
        """Vector version of what is computed."""
        return self._texts.version

    def compute(self, contents: Sequence[Content], found: Found) -> asyncio.Task[None]:
        """Begin to compute; ``found`` is told of each vector. The task returned may be waited for, or not."""
        self._wanted |= {content.content_id: content for content in contents}
        task = asyncio.create_task(self._run(contents, found))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def forget(self, content_id: int) -> None:
        """Drop what is being computed for a content: something newer is known of it."""
        self._wanted.pop(content_id, None)

    async def _run(self, contents: Sequence[Content], found: Found) -> None:
        for content in contents:
            if self._wanted.get(content.content_id) is not content:
                continue
            vector = await self._texts.one(content.title, content.description)
            if self._wanted.get(content.content_id) is content:
                del self._wanted[content.content_id]
                found(content, vector)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("contents.vectors_not_computed", exc_info=error)
