"""F12: records that cannot be used, and clocks that are seventy years ahead."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from libs.adapters.dead_letters import GROUP, DeadLetters
from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer
from libs.adapters.ports import Outgoing
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.events.topics import EVENTS, user_key
from libs.rl.snapshot import decode
from tests.faults.checker import EVERY
from tests.faults.history import Acknowledged, History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, Trial
from tests.faults.workload import CONTENTS, USERS
from tests.running_system import RunningSystem, eventually

GOOD = 99  # to each record of poison
YEAR_2100_MS = 4_102_444_800_000
TAG = "fault-tag"
VECTOR_SIZE = 300

Poison = Callable[[dict[str, Any]], bytes]
POISON: dict[str, tuple[str, Poison]] = {
    "bad JSON": ("json", lambda event: json.dumps(event).encode()[:-2]),
    "NaN": ("json", lambda event: json.dumps({**event, "kind": "reward", "value": float("nan")}).encode()),
    "no user": ("field", lambda event: json.dumps({**event, "user_id": None}).encode()),
    "unknown kind": ("field", lambda event: json.dumps({**event, "kind": "stare"}).encode()),
    "unknown schema": ("schema", lambda event: json.dumps({**event, "schema": 99}).encode()),
    "900 kB": ("oversize", lambda event: json.dumps({**event, "page": "x" * 900_000}).encode()),
}
"""What is sent, and the reason that its dead letter has to give."""


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.under_load(stack) as system:
        bursts = trial.choose(full=10, short=2)
        for burst in range(bursts):
            trial.inject("1 % poison, and a clock in the year 2100")
            asyncio.run(produce(trial, system, burst))
            trial.pause(0.0, trial.choose(full=3.0, short=0.5))
        ends = trial.log_ends(system)
        with trial.recovering("everything before and behind the poison is read"):
            eventually(lambda: all(read_to(system, tp) >= end for tp, end in ends.items()), f"{ends}", DEADLINE_S)
        trial.note("clamped", system.learner_metric("clamped_times_total", bound="future"))
        trial.note("dead_lettered", system.learner_metric("interactions_total", outcome="dead_lettered"))
        trial.note("letters", asyncio.run(letters(system)))
        trial.await_snapshot()
        trial.note("weights_finite", asyncio.run(weights_finite(system)))


def read_to(system: RunningSystem, partition: int) -> float:
    return system.learner_metric("position", topic=EVENTS, partition=str(partition))


async def produce(trial: Trial, system: RunningSystem, burst: int) -> None:
    """Append each kind of poison once, among a hundred times as much that is good, in any order."""
    records: list[tuple[Outgoing, str | None]] = []
    for kind, (reason, poisoned) in POISON.items():
        for number in range(GOOD):
            event_id = f"direct-{burst}-{kind.replace(' ', '-')}-{number}"
            future = {"timestamp_ms": YEAR_2100_MS} if number == 0 else {}
            records.append((outgoing(event(trial, event_id) | future), event_id))
        tag = f"{burst} {kind}"
        bad = event(trial, f"poison-{burst}-{kind.replace(' ', '-')}")
        records.append((outgoing(bad, poisoned, tag), None))
        trial.note("injected", [tag, reason])
    trial.note("future", len(POISON))
    trial.chance.shuffle(records)
    producer = KafkaProducer(system.stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    try:
        assert all(await producer.append([record for record, _ in records], DEADLINE_S))
    finally:
        await producer.stop()
    trial.history.add(Acknowledged(tuple(event_id for _, event_id in records if event_id is not None)))


def event(trial: Trial, event_id: str) -> dict[str, Any]:
    user_id = f"user-{trial.chance.randrange(USERS)}"
    kind = {"type": "interaction", "kind": "click", "content_id": trial.chance.choice(CONTENTS)}
    return {**kind, "event_id": event_id, "user_id": user_id}


def outgoing(event: dict[str, Any], poisoned: Poison | None = None, tag: str = "") -> Outgoing:
    value = json.dumps(event).encode() if poisoned is None else poisoned(event)
    headers = ((TAG, tag.encode()),) if tag else ()
    return Outgoing(EVENTS, user_key(event["user_id"]), value, headers)


async def letters(system: RunningSystem) -> list[list[str]]:
    """Return tag and reason of every dead letter."""
    servers = system.stack.addresses.kafka_bootstrap_servers
    found = DeadLetters(lambda: KafkaPartitionReader(servers, GROUP)).batches()
    return [[dict(letter.own).get(TAG, b"").decode(), letter.reason] async for batch, _, _ in found for letter in batch]


async def weights_finite(system: RunningSystem) -> bool:
    """Tell whether the weights that rank are finite; what is decoded was checked, and is looked at once more."""
    store = RedisSnapshotStore(system.stack.addresses.redis_url, "moard")
    try:
        current = await store.current()
        assert current is not None
        _, blob = await store.load(current.version)
    finally:
        await store.close()
    snapshot = decode(blob, current.sha256, VECTOR_SIZE)
    return all(bool(np.isfinite(weights).all()) for weights in snapshot.weights.values())


def dead_letters_are_what_was_injected(history: History) -> Iterator[str]:
    """Each record of poison is one dead letter with the right reason, and nothing else is."""
    injected = Counter(map(tuple, history.noted("injected")))
    found = Counter(tuple(letter) for noted in history.noted("letters") for letter in noted)
    if injected != found:
        yield f"not dead-lettered: {dict(injected - found)}; nobody injected: {dict(found - injected)}"
    if (counted := sum(history.noted("dead_lettered"))) != injected.total():
        yield f"{counted:.0f} events were counted as dead-lettered, {injected.total()} were injected"


def the_future_is_clamped(history: History) -> Iterator[str]:
    """Each event of the year 2100 was moved to its append time, and counted."""
    if (clamped := sum(history.noted("clamped"))) != (future := sum(history.noted("future"))):
        yield f"{clamped:.0f} times were clamped, {future} lay in the future"


def weights_stay_finite(history: History) -> Iterator[str]:
    """What ranks at the end is finite."""
    if history.noted("weights_finite") != [True]:
        yield "the weights are not finite"


ROW = Row(
    "F12",
    fault="1 % poison (bad JSON, NaN, no user, unknown kind, unknown schema, 900 kB), clocks in the year 2100",
    must_hold="dead letters = injected; 2100 clamped and counted; partitions advance; weights finite",
    run=run,
    checks=(*EVERY, dead_letters_are_what_was_injected, the_future_is_clamped, weights_stay_finite),
)
