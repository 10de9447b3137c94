"""The reader ports on Kafka: by assigned partitions, and as a member of a group."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping
from typing import Any, Final

import aiokafka
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from libs.adapters.kafka_broker import Broker, broker_of
from libs.adapters.kafka_logs import limit_kafka_logs
from libs.adapters.log_errors import out_of_range
from libs.adapters.ports import Record, TopicPartition
from libs.errors import StoreUnavailable

log = structlog.get_logger(__name__)

_REQUEST_TIMEOUT_MS: Final = 10_000  # an 8 s black hole costs 32 s more after healing at the 40 s default
_COMMIT_S: Final = 5.0  # aiokafka retries a commit for ever
# Of a group's session of 10 s, which a busy event loop must not outlast; the default of 3 s leaves little of a third.
_HEARTBEAT_MS: Final = 1_000
_START_S: Final = 30.0  # a join may wait out another member's session of 10 s, twice
_STOP_S: Final = 5.0
# aiokafka keeps one fetch in flight for each broker: a record of one partition waits for the long poll on the others.
# 500 ms, the default, would be added to the time from a click to what is learned from it.
_FETCH_WAIT_MS: Final = 50


class _Reader:
    """What both readers do with a consumer."""

    def __init__(self, broker: Broker | str, group_id: str, auto_offset_reset: str) -> None:
        limit_kafka_logs()
        self._broker = broker_of(broker)
        self._group_id = group_id
        self._auto_offset_reset = auto_offset_reset
        self._consumer: AIOKafkaConsumer | None = None
        self._committing: asyncio.Future[None] | None = None

    @property
    def _live(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise StoreUnavailable("the reader is not started")
        return self._consumer

    async def _open(
        self, topic: str | None = None, listener: ConsumerRebalanceListener | None = None
    ) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._broker.options(),
            group_id=self._group_id,
            enable_auto_commit=False,
            auto_offset_reset=self._auto_offset_reset,
            isolation_level="read_committed",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )
        if topic is not None:
            consumer.subscribe([topic], listener=listener)
        try:
            async with asyncio.timeout(_START_S):
                await consumer.start()
        except (TimeoutError, KafkaError) as error:
            await _close(consumer)
            raise StoreUnavailable(f"no broker at {self._broker}: {error!r}") from error
        except BaseException:
            await _close(consumer)
            raise
        self._consumer = consumer
        return consumer

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records, each partition in offset order; empty after ``timeout_ms``."""
        return await self._fetched((), max_records, timeout_ms)

    async def _fetched(
        self, partitions: Iterable[aiokafka.TopicPartition], max_records: int, timeout_ms: int
    ) -> list[Record]:
        """Return the next records of these partitions, of all when there are none."""
        try:
            found = await self._live.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            ((tp, offset),) = list(error.args[0].items())[:1]
            raise out_of_range(_port(tp), offset) from error
        except KafkaError as error:
            raise StoreUnavailable(f"reading failed: {error!r}") from error
        return [_record(record) for records in found.values() for record in records]

    def lag(self) -> dict[TopicPartition, int]:
        """Return high water mark minus position where both are known; local, never blocks."""
        lags: dict[TopicPartition, int] = {}
        for tp in self._live.assignment():
            position, end = _position(self._live, tp), self._live.highwater(tp)
            if position is not None and end is not None:
                lags[_port(tp)] = max(0, end - position)
        return lags

    async def _committed(self, partitions: Iterable[aiokafka.TopicPartition]) -> dict[TopicPartition, int]:
        """Return what was stored under the group id; raises ``StoreUnavailable``."""
        found: dict[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(_START_S):  # aiokafka asks for ever
                for tp in partitions:
                    if (offset := await self._live.committed(tp)) is not None:
                        found[_port(tp)] = offset
        except (TimeoutError, KafkaError) as error:
            raise StoreUnavailable(f"no offsets of group {self._group_id}: {error!r}") from error
        return found

    async def stop(self) -> None:
        """Close."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _close(consumer)
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.gather(self._committing, return_exceptions=True)

    async def _commit(self, offsets: Mapping[aiokafka.TopicPartition, int] | None) -> bool:
        # A commit without a broker is left to itself, not cancelled: aiokafka shields the request inside, and its
        # failure would be logged as never retrieved. Until it has ended there is no second one.
        if self._committing is not None and not self._committing.done():
            return False
        self._committing = asyncio.ensure_future(self._live.commit(offsets))
        await asyncio.wait([self._committing], timeout=_COMMIT_S)
        error = self._committing.exception() if self._committing.done() else TimeoutError()
        if error is None:
            return True
        if not isinstance(error, (TimeoutError, KafkaError)):
            raise error
        log.warning("reader.commit_failed", group=self._group_id, error=repr(error))
        return False


class KafkaPartitionReader(_Reader):
    """Reads assigned partitions from given offsets.

    Raises ``RefusedStart`` from ``poll`` at an offset that the log does not hold: never a silent jump.
    """

    def __init__(self, broker: Broker | str, group_id: str) -> None:
        super().__init__(broker, group_id, auto_offset_reset="none")
        self._ends: dict[TopicPartition, int] = {}
        self._paused: set[aiokafka.TopicPartition] = set()

    async def start(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Assign exactly these partitions and seek each to its offset (-1: the beginning)."""
        consumer = await self._open()
        try:
            beginnings = await _ask(consumer.beginning_offsets(_kafka(offsets)))
            self._ends = await _ask(consumer.end_offsets(_kafka(offsets)))
        except BaseException:
            await self.stop()
            raise
        consumer.assign(_kafka(offsets))
        self._paused.clear()
        for tp, offset in offsets.items():  # nothing awaits in between, or aiokafka would look for a position itself
            consumer.seek(aiokafka.TopicPartition(*tp), beginnings[tp] if offset < 0 else offset)

    async def poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        """Return the next records of the partitions that are not paused; empty after ``timeout_ms``."""
        if not self._paused:
            return await super().poll(max_records, timeout_ms)
        if reading := self._live.assignment() - self._paused:
            return await self._fetched(reading, max_records, timeout_ms)
        await asyncio.sleep(timeout_ms / 1_000)
        return []

    def pause(self, partitions: Collection[TopicPartition] | None = None) -> None:
        """Return no record of these partitions, or of all; for each, one answer of the broker (1 MB) may wait.

        Not by aiokafka's own pause: it throws that answer away, to ask for it again after each resume, and leaves it in
        a cycle for a garbage collection that a busy learner makes once in a backlog.
        """
        self._paused |= self._live.assignment() if partitions is None else set(_kafka(partitions))

    def resume(self) -> None:
        """Return records of all partitions again."""
        self._paused.clear()

    def positions(self) -> dict[TopicPartition, int]:
        """Return the next offset of each assigned partition; local, never blocks."""
        found = {_port(tp): _position(self._live, tp) for tp in self._live.assignment()}
        return {tp: position for tp, position in found.items() if position is not None}

    def lag(self) -> dict[TopicPartition, int]:
        """Return the end as last heard of, minus the position; local, never blocks."""
        return {tp: max(0, self._end(tp) - position) for tp, position in self.positions().items()}

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Ask the broker for the log ends; raises ``StoreUnavailable``."""
        self._ends = await _ask(self._live.end_offsets(list(self._live.assignment())))
        return dict(self._ends)

    async def beginning_offsets(self) -> dict[TopicPartition, int]:
        """Ask the broker for the first retained offsets; raises ``StoreUnavailable``."""
        return await _ask(self._live.beginning_offsets(list(self._live.assignment())))

    async def offsets_at(self, at_ms: int) -> dict[TopicPartition, int]:
        """Ask the broker where a moment begins; the end where nothing was appended since. May raise as above."""
        ends = await self.end_offsets()
        try:
            found = await self._live.offsets_for_times(dict.fromkeys(_kafka(ends), at_ms))
        except KafkaError as error:
            raise StoreUnavailable(f"the broker did not answer: {error!r}") from error
        return ends | {_port(tp): place.offset for tp, place in found.items() if place is not None}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Store offsets for lag displays; False when the broker did not take them in 5 s."""
        return await self._commit({aiokafka.TopicPartition(*tp): offset for tp, offset in offsets.items()})

    async def committed(self) -> dict[TopicPartition, int]:
        """Return what was stored under the group id; raises ``StoreUnavailable``."""
        return await self._committed(self._live.assignment())

    def _end(self, tp: TopicPartition) -> int:
        # Before a partition's first fetch, the answer that start() got is what is known.
        return max(self._live.highwater(aiokafka.TopicPartition(*tp)) or 0, self._ends.get(tp, 0))


class KafkaGroupOffsets(_Reader):
    """Watches a consumer group from outside: joins nothing, fetches no record."""

    def __init__(self, broker: Broker | str, group_id: str) -> None:
        super().__init__(broker, group_id, auto_offset_reset="none")

    async def start(self) -> None:
        """Connect. Raises ``StoreUnavailable``."""
        await self._open()

    async def behind(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return log end minus committed offset of each partition; raises ``StoreUnavailable``."""
        committed = await self._committed(_kafka(partitions))
        begins = await _ask(self._live.beginning_offsets(_kafka(partitions)))
        ends = await _ask(self._live.end_offsets(_kafka(partitions)))
        return {tp: max(0, ends[tp] - max(begins[tp], committed.get(tp, 0))) for tp in partitions}


class KafkaGroupReader(_Reader):
    """Reads one topic as a member of a consumer group, at least once."""

    def __init__(self, broker: Broker | str, group_id: str, topic: str) -> None:
        super().__init__(broker, group_id, auto_offset_reset="earliest")
        self._topic = topic
        self._assignments = _Assignments()

    async def start(self) -> None:
        """Join the group; a group without offsets starts at the beginning."""
        await self._open(self._topic, self._assignments)

    @property
    def rebalances(self) -> int:
        """Times partitions were given to this member, the first time at its start."""
        return self._assignments.count

    async def commit(self) -> bool:
        """Commit what was returned by ``poll`` so far; False when the broker did not take it in 5 s."""
        return not self._live.assignment() or await self._commit(None)


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]
    """Counts how often a group gave its member partitions."""

    count = 0

    def on_partitions_revoked(self, revoked: Collection[aiokafka.TopicPartition]) -> None:
        """Nothing: what was not committed is read again, by whoever gets the partition."""

    def on_partitions_assigned(self, assigned: Collection[aiokafka.TopicPartition]) -> None:  # noqa: ARG002
        """Count."""
        self.count += 1


def _kafka(partitions: Iterable[TopicPartition]) -> list[aiokafka.TopicPartition]:
    return [aiokafka.TopicPartition(*tp) for tp in partitions]


def _port(tp: aiokafka.TopicPartition) -> TopicPartition:
    return TopicPartition(tp.topic, tp.partition)


def _record(found: Any) -> Record:
    return Record(
        found.topic, found.partition, found.offset, found.timestamp, found.key, found.value, tuple(found.headers)
    )


def _position(consumer: AIOKafkaConsumer, tp: aiokafka.TopicPartition) -> int | None:
    """Return the position without waiting: the public ``position()`` waits while there is none."""
    subscription = consumer._subscription.subscription
    assignment = subscription and subscription.assignment
    if not assignment or tp not in assignment.tps:
        return None
    state = assignment.state_value(tp)
    return int(state.position) if state.has_valid_position else None


async def _ask(question: Awaitable[Mapping[aiokafka.TopicPartition, int]]) -> dict[TopicPartition, int]:
    try:
        answer = await question
    except KafkaError as error:
        raise StoreUnavailable(f"the broker did not answer: {error!r}") from error
    return {_port(tp): offset for tp, offset in answer.items()}


async def _close(consumer: AIOKafkaConsumer) -> None:
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=_STOP_S)
    while not stopping.done():  # leaving the group needs a broker that answers
        await consumer._client.close()
        stopping.cancel()
        await asyncio.wait([stopping], timeout=0.2)
    await asyncio.gather(stopping, return_exceptions=True)
