"""Events of a file into the topic, each once, at the time at which it happened."""

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import orjson
from rich.progress import Progress

from libs.adapters.log_range import LogRange
from libs.adapters.ports import Outgoing, PartitionReader, Producer, Record, TopicPartition
from libs.errors import BadEvent, StoreUnavailable
from libs.events.event_time import event_time_ms
from libs.events.schema import Erasure
from libs.events.topics import EVENTS, Origin, event_id_of, user_key
from services.cli.event_lines import Line, parse_line

BATCH: Final = 1_000
SHOWN: Final = 20  # lines of which it is said in full why they cannot be used
_POLL_RECORDS: Final = 2_000
_APPEND_S: Final = 10.0
_TRIES: Final = 3
_ID_BYTES: Final = 16  # of a hash: among a billion ids two are equal with a chance of 10⁻²¹


class Sendable(NamedTuple):
    """One event of the file, ready to be appended."""

    event_id: str
    record: Outgoing


@dataclass(slots=True)
class Imported:
    """What became of the lines of a file."""

    appended: int = 0
    known: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)

    def refuse(self, number: int, error: BadEvent) -> None:
        """Count a line that cannot be used, and say why of the first ones."""
        self.refused += 1
        if len(self.reasons) < SHOWN:
            self.reasons.append(f"line {number}: {error}")


class KnownIds:
    """Ids of the events that a topic holds, 16 bytes each."""

    def __init__(self) -> None:
        self._ids = np.empty(0, f"S{_ID_BYTES}")

    async def read(self, reader: PartitionReader, partitions: int, bar: Progress) -> None:
        """Read the whole topic; raises ``StoreUnavailable`` when the broker falls silent."""
        tps = [TopicPartition(EVENTS, number) for number in range(partitions)]
        log = LogRange(reader, tps)
        spans = await log.extent()
        task = bar.add_task("looking at what is there", total=sum(span.end - span.start for span in spans.values()))
        found: list[np.ndarray] = [self._ids]
        async for records in log.batches(spans, _POLL_RECORDS):
            found.append(_hashes(_id_of(record) for record in records))
            bar.advance(task, len(records))
        self._ids = np.unique(np.concatenate(found))

    def among(self, event_ids: Iterable[str]) -> np.ndarray:
        """Return, for each id in order, whether the topic holds it."""
        asked = _hashes(event_ids)
        if not len(self._ids):
            return np.zeros(len(asked), bool)
        places = np.minimum(np.searchsorted(self._ids, asked), len(self._ids) - 1)
        return np.asarray(self._ids[places] == asked)


async def import_lines(
    lines: Iterable[tuple[int, bytes]], known: KnownIds, producer: Producer, bar: Progress, total_bytes: int | None
) -> Imported:
    """Append the events that the topic does not hold, in order; what cannot be used is counted and said.

    Raises
    ------
    StoreUnavailable
        The broker did not take them. Importing again appends what is missing.
    """
    done = Imported()
    task = bar.add_task("importing", total=total_bytes)
    for batch, size in _batches(lines, done):
        there = known.among(each.event_id for each in batch)
        fresh = [each.record for each, is_there in zip(batch, there, strict=True) if not is_there]
        done.known += len(batch) - len(fresh)
        await _append(producer, fresh)
        done.appended += len(fresh)
        bar.advance(task, size)
    return done


def sendable(line: Line) -> Sendable:
    """Return an event as it is sent again: the time at which it happened is its own from now on.

    In its place in the log an event happened when it said so, within the bounds of that moment, or when it was
    appended. ``source: backfill`` lets the time stand, however old it is (streaming.md §2). Fields that this version
    does not know travel along. An erasure is sent as it is: it forgets what the topic holds of its user by then.
    """
    event, document = line.event, line.document | {"event_id": line.event.event_id}
    if not isinstance(event, Erasure):
        at_ms = event.timestamp_ms
        if line.append_ms is not None:
            at_ms, _ = event_time_ms(at_ms, event.source, line.append_ms)
        document |= {"source": "backfill"} if at_ms is None else {"source": "backfill", "timestamp_ms": at_ms}
    return Sendable(event.event_id, Outgoing(EVENTS, user_key(event.user_id), orjson.dumps(document)))


def _batches(lines: Iterable[tuple[int, bytes]], done: Imported) -> Iterator[tuple[list[Sendable], int]]:
    batch: list[Sendable] = []
    size = 0
    for number, text in lines:
        size += len(text)
        if not text.strip():
            continue
        try:
            batch.append(sendable(parse_line(text)))
        except BadEvent as error:
            done.refuse(number, error)
        if len(batch) >= BATCH:
            yield batch, size
            batch, size = [], 0
    yield batch, size


async def _append(producer: Producer, records: Sequence[Outgoing]) -> None:
    waiting = list(records)
    for _ in range(_TRIES):
        if not waiting:
            return
        kept = await producer.append(waiting, _APPEND_S)
        waiting = [record for record, acknowledged in zip(waiting, kept, strict=True) if not acknowledged]
        if waiting:
            await asyncio.sleep(1)
    if waiting:
        raise StoreUnavailable(
            f"the broker did not take {len(waiting)} of {len(records)} events; the same command goes on where this one "
            "stopped"
        )


def _id_of(record: Record) -> str:
    """Return the id of an event in the log; what is none has one that no event bears."""
    try:
        event_id = orjson.loads(record.value or b"{}")["event_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        event_id = None
    return str(event_id or event_id_of(Origin(record.topic, record.partition, record.offset)))


def _hashes(event_ids: Iterable[str]) -> np.ndarray:
    digests = [hashlib.blake2b(event_id.encode(), digest_size=_ID_BYTES).digest() for event_id in event_ids]
    return np.array(digests, f"S{_ID_BYTES}")
