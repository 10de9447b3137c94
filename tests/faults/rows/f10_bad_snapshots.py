"""F10: snapshots that must not rank lie where the pointer points."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import redis

from libs.rl import snapshot as encoding
from tests.faults.checker import DELIVERY, epochs_never_go_back, something_happened, statuses
from tests.faults.history import Answered, History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.faults.watching import watching_serving
from tests.running_system import RunningSystem, eventually

PREFIX = "snap:moard:"
_TOO_LARGE = 65 * 1024 * 1024
_VECTOR_SIZE = 300  # MOARD_VECTOR_SIZE

Bad = tuple[dict[bytes, Any], bytes]
"""What the metadata says otherwise than of the good snapshot, and the blob."""
Spoil = Callable[[int, bytes, Random], Bad]


def bit_flip(_: int, blob: bytes, chance: Random) -> Bad:
    at = chance.randrange(len(blob))
    return {}, blob[:at] + bytes([blob[at] ^ (1 << chance.randrange(8))]) + blob[at + 1 :]


def truncated(_: int, blob: bytes, chance: Random) -> Bad:
    return {}, blob[: chance.randrange(1, len(blob))]


def wrong_shape(_: int, blob: bytes, __: Random) -> Bad:
    good = encoding.decode(blob, _sha256(blob), _VECTOR_SIZE)
    weights = {**good.weights, "heads.bias": np.zeros(3, np.float32)}
    return _fitting(encoding.encode(dataclasses.replace(good, weights=weights)))


def not_a_number(_: int, blob: bytes, __: Random) -> Bad:
    good = encoding.decode(blob, _sha256(blob), _VECTOR_SIZE)
    return _fitting(encoding.encode(dataclasses.replace(good, biases=np.full_like(good.biases, np.nan))))


def future_format(known: int, blob: bytes, _: Random) -> Bad:
    return {b"format": known + 1}, blob


def too_large(_: int, blob: bytes, __: Random) -> Bad:
    return _fitting(blob + bytes(_TOO_LARGE - len(blob)))


REASONS: dict[Spoil, str] = {
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
        system.learner.pause()  # or its next snapshot would replace what lies there before anybody looked
        good = system.stored_version()
        eventually(lambda: system.snapshot_version() == good, "serving to have the newest", DEADLINE_S)
        with (
            redis.Redis.from_url(stack.addresses.redis_url) as client,
            watching_serving(system.serving.url, trial.history),
        ):
            for spoil, reason in trial.chance.sample(list(REASONS.items()), len(REASONS)):
                trial.inject(f"snapshot: {spoil.__name__.replace('_', ' ')}")
                before = rejected(system, reason)
                publish(client, good, spoil, trial.chance)
                eventually(lambda: rejected(system, reason) > before, f"a rejection by {reason}", DEADLINE_S)  # noqa: B023
                trial.note("rejected", reason)
        system.learner.resume()
        trial.note("good", good)
        trial.note("ranked", system.rank("a-page", [1, 2, 3])["snapshot_version"])
        with trial.recovering("the learner's next snapshot serves"), trial.users(system):
            eventually(lambda: system.snapshot_version() > good, "a good snapshot", DEADLINE_S)
        trial.drain(system)


def rejected(system: RunningSystem, reason: str) -> float:
    return system.metric(system.serving.url, "moard_serving_snapshot_rejected_total", reason=reason)


def publish(client: Any, good: int, spoil: Spoil, chance: Random) -> None:
    """Let the pointer name a spoiled copy of the good snapshot, as the next version, past all that a publisher checks.

    By hand, as 65 MB take a publisher's patience where cores are shared.
    """
    fields: dict[Any, Any] = client.hgetall(f"{PREFIX}meta:{good}")
    blob: bytes = client.get(f"{PREFIX}{good}")
    version = int(client.hget(f"{PREFIX}current", "version") or 0) + 1
    changed, spoiled = spoil(int(fields[b"format"]), blob, chance)
    fields |= {b"version": version, b"size_bytes": len(blob), b"sha256": _sha256(blob)} | changed
    with client.pipeline() as together:
        together.set(f"{PREFIX}{version}", spoiled)
        together.hset(f"{PREFIX}meta:{version}", mapping=fields)
        together.hset(f"{PREFIX}current", mapping={"version": version, "sha256": fields[b"sha256"]})
        together.zadd(f"{PREFIX}versions", {str(version): version})
        together.xadd(f"{PREFIX}log", {"version": version})
        together.execute()


def _fitting(blob: bytes) -> Bad:
    return {b"sha256": _sha256(blob), b"size_bytes": len(blob)}, blob


def _sha256(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


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
