"""F10: snapshots that must not rank lie where the pointer points."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from random import Random

import numpy as np

from libs.adapters.ports import SnapshotMeta
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.rl import snapshot as encoding
from libs.rl.snapshot import Snapshot
from tests.faults.checker import DELIVERY, epochs_never_go_back, something_happened, statuses
from tests.faults.history import Answered, History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.faults.watching import watching_serving
from tests.running_system import RunningSystem, eventually

Bad = tuple[SnapshotMeta, bytes]
_TOO_LARGE = 65 * 1024 * 1024
_VECTOR_SIZE = 300  # MOARD_VECTOR_SIZE


def bit_flip(meta: SnapshotMeta, blob: bytes, chance: Random) -> Bad:
    at = chance.randrange(len(blob))
    return meta, blob[:at] + bytes([blob[at] ^ (1 << chance.randrange(8))]) + blob[at + 1 :]


def truncated(meta: SnapshotMeta, blob: bytes, chance: Random) -> Bad:
    return meta, blob[: chance.randrange(1, len(blob))]


def wrong_shape(meta: SnapshotMeta, blob: bytes, _: Random) -> Bad:
    return _encoded(meta, blob, lambda good: {"weights": {**good.weights, "heads.bias": np.zeros(3, np.float32)}})


def not_a_number(meta: SnapshotMeta, blob: bytes, _: Random) -> Bad:
    return _encoded(meta, blob, lambda good: {"biases": np.full_like(good.biases, np.nan)})


def future_format(meta: SnapshotMeta, blob: bytes, _: Random) -> Bad:
    return dataclasses.replace(meta, format=meta.format + 1), blob


def too_large(meta: SnapshotMeta, blob: bytes, _: Random) -> Bad:
    return _fitting(meta, blob + bytes(_TOO_LARGE - len(blob)))


REASONS: dict[Callable[[SnapshotMeta, bytes, Random], Bad], str] = {
    bit_flip: "sha256",
    truncated: "size",
    wrong_shape: "arch",
    not_a_number: "finite",
    future_format: "format",
    too_large: "size",
}


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.watched(stack) as system:
        with trial.users(system):
            trial.await_snapshot()
            trial.pause(0.5, 1.5)
        trial.drain(system)
        good = trial.pointer.version  # the learner is quiet now: what follows is not overwritten by its next one
        eventually(lambda: system.snapshot_version() == good, "serving to have the newest", DEADLINE_S)
        with watching_serving(system.serving.url, trial.history):
            for spoil, reason in trial.chance.sample(list(REASONS.items()), len(REASONS)):
                trial.inject(f"snapshot with {spoil.__name__.replace('_', ' ')}")
                before = rejected(system, reason)
                asyncio.run(publish(stack.addresses.redis_url, good, spoil, trial.chance))
                eventually(lambda: rejected(system, reason) > before, f"a rejection by {reason}", DEADLINE_S)  # noqa: B023
                trial.note("rejected", reason)
        trial.note("good", good)
        trial.note("ranked", system.rank("a-page", [1, 2, 3])["snapshot_version"])
        with trial.recovering("the learner's next snapshot serves"), trial.users(system):
            eventually(lambda: system.snapshot_version() > good, "a good snapshot", DEADLINE_S)
        trial.drain(system)


def rejected(system: RunningSystem, reason: str) -> float:
    return system.metric(system.serving.url, "moard_serving_snapshot_rejected_total", reason=reason)


async def publish(
    redis_url: str, good: int, spoil: Callable[[SnapshotMeta, bytes, Random], Bad], chance: Random
) -> None:
    """Publish a spoiled copy of the good snapshot, under the learner's epoch and the next version."""
    store = RedisSnapshotStore(redis_url, "moard")
    try:
        meta, blob = await store.load(good)
        current = await store.current()
        assert current is not None
        await store.publish(*spoil(dataclasses.replace(meta, version=current.version + 1), blob, chance))
    finally:
        await store.close()


def _encoded(meta: SnapshotMeta, blob: bytes, change: Callable[[Snapshot], dict[str, object]]) -> Bad:
    good = encoding.decode(blob, meta.sha256, _VECTOR_SIZE)
    return _fitting(meta, encoding.encode(dataclasses.replace(good, **change(good))))  # type: ignore[arg-type]


def _fitting(meta: SnapshotMeta, blob: bytes) -> Bad:
    digest = hashlib.sha256(blob).hexdigest()
    return dataclasses.replace(meta, sha256=digest, size_bytes=len(blob)), blob


def each_is_rejected(history: History) -> Iterator[str]:
    """Every spoiled snapshot was rejected for its reason, and the one before went on ranking."""
    if sorted(history.noted("rejected")) != sorted(REASONS.values()):
        yield f"rejected were {history.noted('rejected')}"
    if history.noted("ranked") != history.noted("good"):
        yield f"{history.noted('ranked')} ranked, not {history.noted('good')}"


def clients_see_rising_versions(history: History) -> Iterator[str]:
    """No client is ranked for with an older version than before."""
    seen: dict[str, int] = {}
    for answer in history.of(Answered):
        if answer.version is not None and answer.version < seen.get(answer.client, 0):
            yield f"{answer.client} saw {answer.version} after {seen[answer.client]}"
        seen[answer.client] = answer.version or seen.get(answer.client, 0)


ROW = Row(
    "F10",
    fault="snapshot with bit-flip, truncated, wrong shape, NaN, future format, 65 MB",
    must_hold="each is rejected with its reason; the version before goes on ranking",
    run=run,
    checks=(
        something_happened,
        *DELIVERY,
        epochs_never_go_back,
        clients_see_rising_versions,
        statuses(),
        each_is_rejected,
    ),
)
