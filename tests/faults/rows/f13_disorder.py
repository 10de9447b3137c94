"""F13: events twice, out of order, and late."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer
from libs.adapters.log_range import LogRange
from libs.adapters.metrics import OUTCOMES
from libs.adapters.ports import Outgoing, TopicPartition
from libs.events.codec import decode_event, encode
from libs.events.schema import Event, Impression, Interaction
from libs.events.topics import EVENTS, partition_of, user_key
from libs.rl.agent import Agent
from libs.rl.replay import key_of
from libs.rl.transitions import TERMS
from services.learner import checkpoint_files
from services.learner.attribution import Arrival, Attribution
from services.learner.checkpoint import part_of, rows_before
from services.learner.settings import Settings
from tests.faults.checker import DELIVERY, SNAPSHOTS, something_happened
from tests.faults.history import Acknowledged, History
from tests.faults.row import Row
from tests.faults.trial import DEADLINE_S, SETTINGS, Trial
from tests.faults.workload import CONTENTS, SLATE, USERS
from tests.running_system import RunningSystem, eventually

WINDOW_S = 3.0
SCALE = 20  # a minute of the matrix, in which its events are shuffled, is three seconds here
SHUFFLED_MS = 60_000 // SCALE
WINDOWS: Mapping[str, Any] = {
    "learner_click_window_s": WINDOW_S,
    "learner_dwell_window_s": WINDOW_S,
    "learner_horizon_s": WINDOW_S,
    "learner_displacement_s": 1.0,
    "learner_capacity": int(SETTINGS["MOARD_LEARNER_CAPACITY"]),
}
TWICE, SHUFFLED, LATE = 0.05, 0.2, 0.05
AGO_MS = 3_600_000
KINDS = ("click", "like", "view")


@dataclass(frozen=True)
class Sent:
    """One event and when it happened."""

    at_ms: int
    event: Event


def run(trial: Trial) -> None:
    settings = {f"MOARD_{name.upper()}": str(value) for name, value in WINDOWS.items()}
    with trial.stack() as stack, trial.watched(stack, settings) as system:
        told = story(trial, trial.choose(full=2_000, short=300))
        prompt, late = disordered(trial, told)
        trial.inject("5 % twice, 20 % shuffled within 60 s")
        asyncio.run(produce(trial, system, prompt))
        time.sleep(2 * WINDOW_S)  # broker's clock: twice the window of everything appended so far
        trial.inject("5 % late by twice their window")
        asyncio.run(produce(trial, system, late))
        with trial.recovering("what came late is read"):
            trial.drain(system)
            eventually(lambda: told_apart(system) == len(prompt) + len(late), "every event to be counted", DEADLINE_S)
        for outcome in OUTCOMES:
            trial.note(outcome, system.learner_metric("interactions_total", outcome=outcome))
        trial.note("expected", asyncio.run(expected(system, list(trial.log_ends(system)))))
    learned, clean = learned_rows(system, told), clean_rows(told)
    trial.note("rows", len(learned))
    trial.note("clean_rows", len(clean))
    trial.note(
        "different", [[name, learned.get(name), clean.get(name)] for name in clean if learned.get(name) != clean[name]]
    )


def story(trial: Trial, impressions: int) -> list[Sent]:
    """Return what users were shown and did, in the order in which it happened."""
    chance, told = trial.chance, []
    clocks = dict.fromkeys((f"user-{number}" for number in range(USERS)), time.time_ns() // 1_000_000 - AGO_MS)
    for number in range(impressions):
        user_id = chance.choice(list(clocks))
        at_ms = clocks[user_id] = clocks[user_id] + chance.choice((800, 1_500, 2_500, 10_000))
        slate = tuple(chance.sample(CONTENTS, SLATE))
        told.append(Sent(at_ms, Impression(event_id=f"i{number}", user_id=user_id, slate=slate, timestamp_ms=at_ms)))
        for turn in range(chance.choice((0, 1, 2))):
            then_ms = at_ms + chance.randrange(0, int(900 * WINDOW_S))
            kind = chance.choice(KINDS)
            told.append(
                Sent(then_ms, interaction(f"c{number}-{turn}", user_id, kind, chance.choice(slate), number, then_ms))
            )
    return sorted(told, key=lambda sent: sent.at_ms)


def interaction(event_id: str, user_id: str, kind: Any, content_id: int, shown: int, at_ms: int) -> Interaction:
    found = Interaction(
        event_id=event_id,
        user_id=user_id,
        kind=kind,
        content_id=content_id,
        impression_id=f"i{shown}",
        timestamp_ms=at_ms,
    )
    return replace(found, dwell_ms=20_000) if kind == "view" else found


def disordered(trial: Trial, told: Sequence[Sent]) -> tuple[list[Event], list[Event]]:
    """Return the events in the order in which they are sent, and those that are sent much later."""
    chance = trial.chance
    places: list[tuple[float, Event]] = []
    late: list[Event] = []
    for sent in told:
        if isinstance(sent.event, Interaction) and chance.random() < LATE:
            late.append(sent.event)
            continue
        moved = chance.uniform(-SHUFFLED_MS, SHUFFLED_MS) if chance.random() < SHUFFLED else 0.0
        places.append((sent.at_ms + moved, sent.event))
        if chance.random() < TWICE:
            places.append((sent.at_ms + chance.uniform(0, SHUFFLED_MS), sent.event))
    places.sort(key=lambda place: place[0])
    return [event for _, event in places], late


async def produce(trial: Trial, system: RunningSystem, events: Sequence[Event]) -> None:
    producer = KafkaProducer(system.stack.addresses.kafka_bootstrap_servers)
    await producer.start()
    try:
        records = [Outgoing(EVENTS, user_key(event.user_id), encode(event)) for event in events]
        assert all(await producer.append(records, DEADLINE_S))
    finally:
        await producer.stop()
    trial.history.add(Acknowledged(tuple(dict.fromkeys(event.event_id for event in events))))


def told_apart(system: RunningSystem) -> float:
    """Return how many events have been counted as something."""
    impressions = system.learner_metric("impressions_total") + system.learner_metric("duplicate_impressions_total")
    return impressions + system.learner_metric("interactions_total")


async def expected(system: RunningSystem, partitions: Sequence[int]) -> dict[str, int]:
    """Return the outcomes that follow from the broker's times: what is late is decided by them, not by the sender."""
    first_ms: dict[str, int] = {}
    interactions: dict[str, Interaction] = {}
    repeated = 0
    reader = KafkaPartitionReader(system.stack.addresses.kafka_bootstrap_servers, "moard-faults")
    log = LogRange(reader, [TopicPartition(EVENTS, number) for number in partitions])
    try:
        async for records in log.batches(await log.extent(), 1_000):
            for record in records:
                event = decode_event(record.value)
                if isinstance(event, Interaction):
                    repeated += event.event_id in first_ms
                    interactions[event.event_id] = event
                first_ms.setdefault(event.event_id, record.append_ms)
    finally:
        await reader.stop()
    late = sum(
        first_ms[name] - first_ms[str(event.impression_id)] > 1_000 * WINDOW_S for name, event in interactions.items()
    )
    return {"joined": len(interactions) - late, "late_applied": late, "duplicate": repeated}


Rows = dict[str, list[Any]]


def learned_rows(system: RunningSystem, told: Sequence[Sent]) -> Rows:
    """Return the rows in the buffer of the learner's last checkpoint."""
    manifest = checkpoint_files.newest_valid(system.checkpoints)
    assert manifest is not None
    arrays, meta = part_of(checkpoint_files.read(system.checkpoints, manifest), "agent")
    agent = Agent.restore(Settings(**WINDOWS).agent_settings(), arrays, meta, rows_before(system.checkpoints, manifest))
    return rows_of(agent, told)


def clean_rows(told: Sequence[Sent]) -> Rows:
    """Return the rows of a join to which everything came once, in order and at once."""
    settings = Settings(**WINDOWS)
    attribution, agent = Attribution(settings.join_rules()), Agent(settings.agent_settings(), settings.vector_size)
    for sent in told:
        agent.apply(
            attribution.observe([Arrival(partition_of(user_key(sent.event.user_id), 4), sent.at_ms, sent.event)])
        )
    end_ms = told[-1].at_ms + AGO_MS
    agent.apply(attribution.advance(dict.fromkeys(range(4), end_ms)))
    return rows_of(agent, told)


def rows_of(agent: Agent, told: Sequence[Sent]) -> Rows:
    """Return each impression's row: what was shown, what it taught, and how its story went on."""
    columns, replay = agent.replay.columns, agent.replay
    names = {key_of(sent.event.event_id): sent.event.event_id for sent in told if isinstance(sent.event, Impression)}
    rows: Rows = {}
    for key, name in names.items():
        if (slot := replay.slot(key)) is None:
            continue
        continuation = int(columns["continuation"][slot])
        following = names[int(columns["key"][continuation % replay.capacity])] if continuation >= 0 else None
        shown = [int(agent.space.ids[at]) for at in columns["slate"][slot] if at]
        taught = [
            [content_id, bool(chosen), *(round(float(terms[at]), 4) for at in range(len(TERMS)))]
            for content_id, chosen, terms in zip(shown, columns["chosen"][slot], columns["terms"][slot], strict=False)
        ]
        rows[name] = [taught, int(columns["status"][slot]), following, round(float(columns["gap_s"][slot]), 3)]
    return rows


def rows_are_those_of_the_clean_run(history: History) -> Iterator[str]:
    """Order, repetition and lateness changed no row."""
    learned, clean, different = (history.noted(name) for name in ("rows", "clean_rows", "different"))
    if not learned or learned != clean:
        yield f"{learned} rows, a clean run has {clean}"
    for rows in filter(None, different):
        name, found, wanted = rows[0]
        yield f"{len(rows)} rows differ from those of a clean run: {name} is {found}, there {wanted}"


def each_ends_in_one_outcome(history: History) -> Iterator[str]:
    """What was late is late_applied, what came again a duplicate, everything else joined."""
    expected: dict[str, int] = next(iter(history.noted("expected")), {})
    found = {outcome: int(sum(history.noted(outcome))) for outcome in OUTCOMES}
    if found != {**dict.fromkeys(OUTCOMES, 0), **expected}:
        yield f"outcomes are {found}, by the broker's times they should be {expected}"
    if not expected or not all(expected.values()):
        yield f"nothing was tried: {expected}"


ROW = Row(
    "F13",
    fault="5 % twice, 20 % shuffled within 60 s, 5 % late by twice their window (times scaled by 20)",
    must_hold="each in exactly one outcome; rows equal those of the clean run; late ones late_applied",
    run=run,
    checks=(something_happened, *DELIVERY, *SNAPSHOTS, each_ends_in_one_outcome, rows_are_those_of_the_clean_run),
)
