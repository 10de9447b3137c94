"""``moard doctor`` on Kafka: the broker, moard's topics, and the records in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from libs.adapters.event_log import topic_specs
from libs.adapters.kafka_inspection import KafkaInspector
from libs.adapters.kafka_readers import KafkaPartitionReader
from libs.adapters.ports import PartitionReader, Record, TopicPartition, TopicSpec
from libs.adapters.settings import StackSettings
from libs.events.topics import CONTENTS, EVENTS, partition_of
from services.cli.diagnosis import SKEW_MS, Check, Finding, answers, judged, mistake, ok, skewed

_SAMPLED: Final = 500  # newest records of each partition
_POLL_MS: Final = 200
_QUIET_POLLS: Final = 25
_KEYED: Final = (EVENTS, CONTENTS)


def kafka_check(settings: StackSettings, clock_ms: Callable[[], int]) -> Check:
    """Return the check of broker and topics; it writes nothing."""
    remedy = (
        f"start it, or set KAFKA_BOOTSTRAP_SERVERS (now {settings.kafka_bootstrap_servers}) and, for TLS and SASL, "
        "MOARD_KAFKA_*"
    )

    async def check() -> list[Finding]:
        inspector, reader = KafkaInspector(settings.kafka), KafkaPartitionReader(settings.kafka, "moard-doctor")
        try:
            return await _look(inspector, reader, topic_specs(settings), clock_ms)
        finally:
            await reader.stop()
            await inspector.close()

    return answers(check, "kafka", remedy)


async def _look(
    inspector: KafkaInspector, reader: PartitionReader, specs: Sequence[TopicSpec], clock_ms: Callable[[], int]
) -> list[Finding]:
    counts = await inspector.topics()
    found = [auto_created(await inspector.broker_settings()), *partitions(specs, counts)]
    for spec in specs:
        if spec.name in counts:
            found += topic_config(spec, await inspector.topic_settings(spec.name))
    records = await newest(reader, {name: counts[name] for name in _KEYED if name in counts})
    for topic in _KEYED:
        if topic in counts:
            found.append(partitioner(topic, [each for each in records if each.topic == topic], counts[topic]))
    return [*found, broker_clock(records, clock_ms())]


def auto_created(broker: Mapping[str, str]) -> Finding:
    """Judge whether a topic comes into being because somebody mistyped its name."""
    if broker.get("auto.create.topics.enable", "true") == "false":
        return ok("auto-created topics", "off")
    return mistake(
        "auto-created topics",
        "the broker creates any topic that somebody names, with one partition and the clients' clocks",
        "set auto.create.topics.enable=false in the broker's server.properties and restart it",
    )


def partitions(specs: Sequence[TopicSpec], counts: Mapping[str, int]) -> list[Finding]:
    """Judge whether the topics are there, as wide as the settings say."""
    wrong = []
    for spec in specs:
        if spec.name not in counts:
            wrong.append(
                mistake("topics", f"{spec.name} does not exist", "run moard topics; starting ingest does it too")
            )
        elif counts[spec.name] != spec.partitions:
            detail = f"{spec.name} has {counts[spec.name]} partitions, the settings say {spec.partitions}"
            variable = {EVENTS: "MOARD_EVENTS_PARTITIONS", CONTENTS: "MOARD_CONTENTS_PARTITIONS"}.get(spec.name)
            remedy = f"set {variable}={counts[spec.name]}: " if variable else "delete the topic and run moard topics: "
            wrong.append(mistake("topics", detail, f"{remedy}changing the count would move users between partitions"))
    return judged("topics", "there, with the partitions that the settings say", wrong)


def topic_config(spec: TopicSpec, config: Mapping[str, str]) -> list[Finding]:
    """Judge a topic's clock, clean-up and retention."""
    check = f"settings of {spec.name}"
    wrong = [
        mistake(
            check, f"{name} is {config.get(name)!r} and should be {value!r}", "run moard topics: it sets them right"
        )
        for name, value in spec.config.items()
        if config.get(name) != value
    ]
    return judged(check, "as moard needs them", wrong)


def partitioner(topic: str, records: Sequence[Record], count: int) -> Finding:
    """Judge whether the newest records lie where murmur2 puts their keys."""
    check = f"partitioner of {topic}"
    keyed = [record for record in records if record.key is not None]
    strays = [record for record in keyed if partition_of(record.key or b"", count) != record.partition]
    keyless = len(records) - len(keyed)
    if not strays and not keyless:
        return ok(check, f"the newest {len(records)} records lie where murmur2 puts their keys")
    detail = f"{len(strays)} of the newest {len(records)} records lie in a partition that is not their key's"
    if strays:
        first = strays[0]
        detail += f", the newest at {first.partition}:{first.offset}"
    if keyless:
        detail += f", {keyless} have no key"
    return mistake(
        check,
        detail,
        "set partitioner=murmur2_random in librdkafka clients (their default is CRC32), key each event by its user id: "
        "docs/reference/events.md",
    )


def broker_clock(records: Sequence[Record], now_ms: int) -> Finding:
    """Judge the broker's clock by the newest append: it cannot lie in the future."""
    newest_ms = max((record.append_ms for record in records), default=None)
    if newest_ms is None:
        return Finding("clock of kafka", "unknown", "no record to tell it by")
    if newest_ms > now_ms + SKEW_MS:
        return skewed("clock of kafka", "Kafka's", newest_ms, now_ms)
    return ok("clock of kafka", "not ahead of this machine's")


async def newest(reader: PartitionReader, topics: Mapping[str, int]) -> list[Record]:
    """Return the newest records of each partition, newest first by partition; transactions may leave fewer."""
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    if not partitions:
        return []
    await reader.start(dict.fromkeys(partitions, -1))
    begins, ends = await reader.beginning_offsets(), await reader.end_offsets()
    await reader.stop()
    starts = {tp: max(begins[tp], ends[tp] - _SAMPLED) for tp in partitions if begins[tp] < ends[tp]}
    if not starts:
        return []
    await reader.start(starts)
    found: list[Record] = []
    quiet = 0
    while quiet < _QUIET_POLLS and any(reader.positions().get(tp, 0) < ends[tp] for tp in starts):
        records = await reader.poll(_SAMPLED, _POLL_MS)
        found += records
        quiet = 0 if records else quiet + 1
    return sorted(found, key=lambda record: (record.topic, record.partition, -record.offset))
