"""Everything moard can reach of one user, as plain values."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from libs.adapters.kafka_inspection import KafkaInspector
from libs.adapters.kafka_readers import KafkaPartitionReader
from libs.adapters.log_range import LogRange
from libs.adapters.ports import Record, TopicPartition
from libs.adapters.user_history import RedisUserHistory
from libs.adapters.user_records import records_of
from libs.events.topics import DEAD_LETTERS, EVENTS, partition_of, user_key
from services.cli.user_rows import learned_of
from services.learner.settings import Settings

_BATCH: Final = 1_000
_ALL_VISITS: Final = 10_000  # far more than a history keeps
_DELETED_LATE_MS: Final = 600_000  # the broker looks for old segments every five minutes, and deletes a minute later

Progress = Callable[[int, int], object]
"""Told how many records were read, of how many."""


async def everything_of(user_id: str, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Return history, events, rows and SQL records of a user.

    Raises
    ------
    StoreUnavailable
        Kafka, Redis or the database does not answer: half an answer would be taken for a whole one.
    """
    learned = learned_of(Path(settings.learner_checkpoint_path), user_id)
    missing = f"there is no checkpoint in {settings.learner_checkpoint_path}: run this where the learner's folder is"
    return {
        "user_id": user_id,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "history": await _history(user_id, settings),
        "learner": {"unreachable": missing} if learned is None else learned,
        "sql": await records_of(settings.database_url, user_id),
        **await _logged(user_id, settings, progress),
    }


async def _history(user_id: str, settings: Settings) -> dict[str, Any]:
    history = RedisUserHistory(settings.redis_url)
    try:
        visits = await history.recent(user_id, _ALL_VISITS)
        return {"seen": await history.seen(user_id), "visits": [visit._asdict() for visit in visits]}
    finally:
        await history.close()


async def _logged(user_id: str, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Return the records of a user's partition and the dead letters that bear the user's key."""
    key, inspector = user_key(user_id), KafkaInspector(settings.kafka)
    try:
        counts = await inspector.topics()
    finally:
        await inspector.close()
    partitions = [TopicPartition(DEAD_LETTERS, number) for number in range(counts.get(DEAD_LETTERS, 0))]
    if EVENTS in counts:
        partitions.append(TopicPartition(EVENTS, partition_of(key, counts[EVENTS])))
    found: dict[str, list[Any]] = {EVENTS: [], DEAD_LETTERS: []}
    reader = KafkaPartitionReader(settings.kafka, "moard-export")
    try:
        log = LogRange(reader, partitions)
        spans = await log.extent() if partitions else {}
        total, done = sum(span.end - span.start for span in spans.values()), 0
        async for records in log.batches(spans, _BATCH):
            for record in records:
                if record.key == key:
                    found[record.topic].append(_record(record))
            done += len(records)
            progress(done, total)
    finally:
        await reader.stop()
    return {"events": found[EVENTS], "dead_letters": found[DEAD_LETTERS]}


def _record(record: Record) -> dict[str, Any]:
    where = {"partition": record.partition, "offset": record.offset, "append_ms": record.append_ms}
    try:
        return where | {"event": orjson.loads(record.value or b"null")}
    except orjson.JSONDecodeError:
        return where | {"bytes": (record.value or b"").hex()}


async def gone_by(settings: Settings) -> dict[str, str | None]:
    """Return for each topic that may hold a user when what it holds now is gone for certain, ISO; None: never.

    A segment is deleted once its newest record is older than the retention, and takes records for ``segment.ms``.
    """
    inspector = KafkaInspector(settings.kafka)
    try:
        configs = {topic: await inspector.topic_settings(topic) for topic in (EVENTS, DEAD_LETTERS)}
    finally:
        await inspector.close()
    return {topic: gone(config) for topic, config in configs.items()}


def gone(config: Mapping[str, str]) -> str | None:
    """Return when a topic with these settings holds nothing of what it holds now, ISO; None: never."""
    retention_ms, segment_ms = int(config["retention.ms"]), int(config["segment.ms"])
    if retention_ms < 0 or "delete" not in config["cleanup.policy"]:
        return None
    gone_s = time.time() + (retention_ms + segment_ms + _DELETED_LATE_MS) / 1_000
    return datetime.fromtimestamp(gone_s, UTC).isoformat(timespec="minutes")
