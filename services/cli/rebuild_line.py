"""Where a rebuild goes: a file, a model line of its own in Redis, and a name that can be pinned."""

import asyncio
import hashlib
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from libs.adapters.model_ports import ModelChange, ModelStore
from libs.adapters.ports import SnapshotMeta, SnapshotStore
from libs.errors import RefusedStart
from libs.rl import snapshot as encoding
from services.cli.rebuild_plan import Plan
from services.cli.rebuild_run import Rebuilt

ACTOR: Final = "moard-rebuild"
"""Who kept the snapshot, in the audit log."""

_OURS: Final = "rebuild"  # in the meta's extra: which rebuild published it ...
_WEIGHTS: Final = "weights"  # ... and what came out
_SNAPSHOT: Final = "rebuilt.snapshot"


@dataclass(frozen=True, slots=True)
class Published:
    """A snapshot as others see it."""

    meta: SnapshotMeta
    blob: bytes

    def is_of(self, rebuilt: Rebuilt, plan: Plan) -> bool:
        """Tell whether it is what a rebuild gave."""
        told = self.meta.extra
        return (told.get(_OURS), told.get(_WEIGHTS)) == (plan.identity, rebuilt.weights)


def published(rebuilt: Rebuilt, plan: Plan, version: int, epoch: int) -> Published:
    """Return a rebuild as a snapshot to publish; its sample of trained events is empty."""
    blob = encoding.encode(rebuilt.snapshot)
    meta = SnapshotMeta(
        version=version,
        epoch=epoch,
        step=rebuilt.manifest.step,
        sha256=hashlib.sha256(blob).hexdigest(),
        size_bytes=len(blob),
        created_ms=_now_ms(),
        format=int(encoding.FORMAT),
        arch=encoding.arch(rebuilt.snapshot),
        offsets=dict(rebuilt.manifest.offsets),
        extra={"cluster_id": plan.source, _OURS: plan.identity, _WEIGHTS: rebuilt.weights},
    )
    return Published(meta, blob)


async def require_free(model: str, plan: Plan, line: SnapshotStore, models: ModelStore) -> None:
    """Raise ``RefusedStart`` when the name stands for anything else; asked before hours of learning."""
    current = await line.current()
    if current is not None and current.extra.get(_OURS) != plan.identity:
        raise RefusedStart(f"--model {model}: Redis has a model line of this name already; choose another one")
    for kept in await models.kept():
        if kept.name == model and kept.meta.extra.get(_OURS) != plan.identity:
            raise RefusedStart(f"--model {model}: snapshot {kept.meta.version} is kept under this name; choose another")


async def publish(rebuilt: Rebuilt, plan: Plan, line: SnapshotStore, models: ModelStore) -> Published:
    """Publish the snapshot as the line's own, and keep it under the line's name; doing so again changes nothing."""
    current = await line.current()
    found = None if current is None else Published(*await line.load(current.version))
    if found is None or not found.is_of(rebuilt, plan):
        epoch = await line.claim_epoch(rebuilt.manifest.epoch)
        names = [kept.name for kept in await models.kept()]
        kept = Published(*await models.load(plan.model)) if plan.model in names else None
        if kept is not None and kept.is_of(rebuilt, plan):  # Redis was emptied since
            found = Published(replace(kept.meta, epoch=epoch), kept.blob)
        else:
            found = published(rebuilt, plan, max(_now_ms(), 0 if current is None else current.version + 1), epoch)
        await line.publish(found.meta, found.blob)
    change = ModelChange("keep", plan.model, ACTOR, "", _now_ms())
    await models.keep(plan.model, found.meta, found.blob, change)
    return found


async def write(snapshot: Published, folder: Path) -> Path:
    """Write a snapshot into the folder, as ``moard evaluate --snapshot`` reads it."""
    path = folder / _SNAPSHOT
    content = orjson.dumps(asdict(replace(snapshot.meta, trained=()))) + b"\n" + snapshot.blob
    await asyncio.to_thread(path.write_bytes, content)
    return path


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
