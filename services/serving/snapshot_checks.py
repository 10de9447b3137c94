"""What a snapshot has to pass before it may rank, whoever named it."""

import asyncio
from collections import OrderedDict
from typing import Final

from libs.adapters.ports import SnapshotMeta
from libs.errors import SnapshotRejected
from libs.rl.action_space import ActionSpace
from libs.rl.scoring import Scorer
from libs.rl.snapshot import FORMAT, Snapshot, arch, decode

_REMEMBERED: Final = 1_000  # digests, 0.1 MB


class SnapshotChecks:
    """Decodes a blob, compares it with what was published beside it, and runs a canary through it; off the loop."""

    def __init__(self, space: ActionSpace) -> None:
        self._space = space
        self._passed: OrderedDict[str, None] = OrderedDict()

    def passed(self, meta: SnapshotMeta) -> bool:
        """Return whether this very blob passed lately: it is immutable, and would again."""
        return meta.sha256 in self._passed

    async def scorer(self, meta: SnapshotMeta, blob: bytes) -> Scorer:
        """Return what scores by this snapshot; raises ``SnapshotRejected`` with the first failing check."""
        snapshot, strangers = await asyncio.to_thread(self._decode, meta, blob)
        self._space.ensure(strangers)  # on the loop: the space has one writer
        scorer = await asyncio.to_thread(self._build, snapshot)
        scorer.refresh(self._space)
        self._passed[meta.sha256] = None
        if len(self._passed) > _REMEMBERED:
            self._passed.popitem(last=False)
        return scorer

    def _decode(self, meta: SnapshotMeta, blob: bytes) -> tuple[Snapshot, list[int]]:
        if meta.size_bytes != len(blob):
            raise SnapshotRejected("size", f"{len(blob)} bytes, the pointer says {meta.size_bytes}")
        if str(meta.format) != FORMAT:
            raise SnapshotRejected("format", f"format {meta.format}, this reader knows {FORMAT}")
        snapshot = decode(blob, meta.sha256, self._space.vector_size)
        if arch(snapshot) != meta.arch:
            raise SnapshotRejected("arch", "another architecture than the pointer says")
        return snapshot, [content_id for content_id in snapshot.content_ids.tolist() if content_id not in self._space]

    def _build(self, snapshot: Snapshot) -> Scorer:
        scorer = Scorer(snapshot, self._space)
        scorer.canary()
        return scorer
