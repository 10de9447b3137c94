"""``moard lag``: how far readers are behind the log, asked of Kafka itself: it is known with all of moard stopped."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import orjson
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from libs.adapters.ports import PartitionReader, TopicPartition

_EVERY_S: Final = 2.0
_PATIENCE_S: Final = 5.0  # for the record whose age is the lag in seconds
_POLL_MS: Final = 200
_POLL_RECORDS: Final = 100

console = Console()
Groups: TypeAlias = "Mapping[str, Mapping[TopicPartition, int | None]]"
"""By consumer group and partition, the offset committed; None where there is none."""


@dataclass(frozen=True, slots=True)
class Behind:
    """How far one group is behind in one partition.

    ``seconds`` is the age of the oldest record that the group has not committed: 0 when there is none, None when it
    could not be read. ``committed`` is None for a group that never committed: it has all that is retained before it.
    """

    group: str
    topic: str
    partition: int
    end: int
    committed: int | None
    records: int
    seconds: float | None


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs; watching, a line each time.")
    ] = False,
) -> None:
    """Show how far learner and history projector are behind, by partition, in records and in seconds.

    Kafka is asked, so that it works with both stopped. The learner commits with each checkpoint; in between its own
    metrics are ahead of this.
    """
    try:
        asyncio.run(_watch(_printed if as_json else _shown) if watch else _once(_printed if as_json else _shown))
    except KeyboardInterrupt:
        raise typer.Exit from None


Show: TypeAlias = Callable[[list[Behind]], object]


async def _once(show: Show) -> None:
    async with asking() as ask:
        show(await ask())


async def _watch(show: Show) -> None:
    async with asking() as ask:
        if show is _printed:
            while True:
                show(await ask())
                await asyncio.sleep(_EVERY_S)
        with Live(table_of(await ask()), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_EVERY_S)
                live.update(table_of(await ask()), refresh=True)


@asynccontextmanager
async def asking() -> "AsyncIterator[Callable[[], Awaitable[list[Behind]]]]":
    """Give a function that asks Kafka once more; raises ``StoreUnavailable`` when it does not answer."""
    from libs.adapters.kafka_inspection import KafkaInspector
    from libs.adapters.kafka_readers import KafkaPartitionReader
    from libs.adapters.ports import TopicPartition
    from libs.adapters.settings import StackSettings, load_settings
    from libs.events.topics import CONTENTS, EVENTS, HISTORY_GROUP, LEARNER_GROUP

    broker = load_settings(StackSettings).kafka
    inspector, reader = KafkaInspector(broker), KafkaPartitionReader(broker, "moard-lag")

    async def ask() -> list[Behind]:
        counts = await inspector.topics()
        groups = {}
        for group, topics in ((LEARNER_GROUP, (EVENTS, CONTENTS)), (HISTORY_GROUP, (EVENTS,))):
            offsets = await inspector.committed(group)
            partitions = [TopicPartition(topic, at) for topic in topics for at in range(counts.get(topic, 0))]
            groups[group] = {tp: offsets.get(tp) for tp in partitions}
        try:
            return await behind(reader, groups, time.time_ns() // 1_000_000)
        finally:
            await reader.stop()

    try:
        yield ask
    finally:
        await inspector.close()


async def behind(reader: "PartitionReader", groups: Groups, now_ms: int) -> list[Behind]:
    """Return how far every group is behind; ``reader`` is used for nothing else meanwhile."""
    partitions = {tp for offsets in groups.values() for tp in offsets}
    if not partitions:
        return []
    await reader.start(dict.fromkeys(partitions, -1))
    begins, ends = await reader.beginning_offsets(), await reader.end_offsets()
    found = []
    for group, offsets in groups.items():
        at = {tp: max(begins[tp], offset or 0) for tp, offset in offsets.items()}
        times = await _append_ms(reader, {tp: start for tp, start in at.items() if start < ends[tp]})
        for tp, offset in sorted(offsets.items()):
            left = max(0, ends[tp] - at[tp])
            append_ms = times.get(tp, now_ms if not left else None)
            seconds = None if append_ms is None else max(0, now_ms - append_ms) / 1_000
            found.append(Behind(group, *tp, ends[tp], offset, left, seconds))
    return found


async def _append_ms(reader: "PartitionReader", starts: "Mapping[TopicPartition, int]") -> "dict[TopicPartition, int]":
    """Return the append time of the first record of each partition from an offset on, as far as they come in time."""
    from libs.adapters.ports import TopicPartition

    if not starts:
        return {}
    await reader.stop()
    await reader.start(starts)
    found: dict[TopicPartition, int] = {}
    deadline = time.monotonic() + _PATIENCE_S
    while len(found) < len(starts) and time.monotonic() < deadline:
        for record in await reader.poll(_POLL_RECORDS, _POLL_MS):
            found.setdefault(TopicPartition(record.topic, record.partition), record.append_ms)
        if found:
            reader.pause(list(found))
    return found


def table_of(found: Iterable[Behind]) -> Table:
    """Return the lags as people read them."""
    table = Table("reader", "topic", "partition", "end", "committed", "lag", "seconds", box=None)
    for each in found:
        committed = "never" if each.committed is None else f"{each.committed:,}"
        seconds = "?" if each.seconds is None else f"{each.seconds:,.1f}"
        numbers = (str(each.partition), f"{each.end:,}", committed, f"{each.records:,}", seconds)
        table.add_row(each.group, each.topic, *numbers, style="bold" if each.records else None)
    return table


def _shown(found: list[Behind]) -> None:
    console.print(table_of(found) if found else "There is nothing to read: moard's topics do not exist (moard topics).")


def _printed(found: list[Behind]) -> None:
    typer.echo(orjson.dumps([asdict(each) for each in found]).decode())
