"""One evaluation from its options to its report: opens what has to be read, and closes it again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from libs.adapters.event_log import KafkaPartitionReader, KafkaTopicAdmin
from libs.adapters.ports import TopicPartition
from libs.adapters.settings import load_settings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.errors import BadEvent
from libs.events.codec import decode_content
from libs.events.topics import CONTENTS, EVENTS
from libs.rl.action_space import ActionSpace
from services.cli.evaluation_input import BATCH, FileSource, Range, Source, TopicSource
from services.cli.evaluation_report import Report
from services.cli.evaluation_run import Offline
from services.cli.evaluation_target import Asked, Loaded, Target, load_snapshot, read_snapshot
from services.learner.settings import Settings

_ESTIMATORS: Final = ("ips", "snips", "rips", "snrips", "dr")
_GROUP: Final = "moard-evaluate"
_SILENCE_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    file: Path | None
    wanted: Range
    asked: Asked
    version: int | None
    snapshot: Path | None
    allow_trained: bool

    @property
    def needs_snapshot(self) -> bool:
        """Whether there is a snapshot to load."""
        return self.asked.policy == "snapshot" or self.version is not None or self.snapshot is not None


async def run(options: Options) -> Report:
    """Evaluate; raises ``RefusedStart`` with the option at fault and the remedy."""
    settings = load_settings(Settings)
    loaded = await _snapshot(options, settings)
    space = ActionSpace(settings.vector_size)
    if options.file is not None:
        return await _over(FileSource(options.file), options, settings, loaded, space)
    broker = settings.kafka
    admin = KafkaTopicAdmin(broker)
    try:
        partitions = await admin.partitions(EVENTS)
        if loaded is not None:
            loaded = loaded.on(await admin.cluster_id())
            await _read_contents(KafkaPartitionReader(broker, _GROUP), await admin.partitions(CONTENTS), space)
    finally:
        await admin.close()
    reader = KafkaPartitionReader(broker, _GROUP)
    source = TopicSource(reader, partitions, options.wanted, settings.join_rules().windows.final_ms)
    try:
        await source.start()
        return await _over(source, options, settings, loaded, space)
    finally:
        await reader.stop()


async def _over(
    source: Source, options: Options, settings: Settings, loaded: Loaded | None, space: ActionSpace
) -> Report:
    target = Target(options.asked, loaded, space)
    offline = Offline(settings.goal(), settings.join_rules(), target, options.wanted, loaded, options.allow_trained)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=source.total)
        async for entries, size in source.batches():
            offline.take(entries)
            bar.advance(task, size)
    notes = _notes(options, loaded, offline.trained, source.bad, len(space) > 1)
    return offline.report(_described(options.asked, loaded), _ESTIMATORS, notes, len(source.bad))


async def _snapshot(options: Options, settings: Settings) -> Loaded | None:
    if not options.needs_snapshot:
        return None
    if options.snapshot is not None:
        return await asyncio.to_thread(read_snapshot, options.snapshot, settings.vector_size)
    store = RedisSnapshotStore(settings.redis_url, settings.model_name)
    try:
        return await load_snapshot(store, options.version, settings.vector_size)
    finally:
        await store.close()


async def _read_contents(reader: KafkaPartitionReader, partitions: int, space: ActionSpace) -> None:
    """Read the compacted catalogue as it is now; what cannot be read has no vector."""
    await reader.start({TopicPartition(CONTENTS, number): -1 for number in range(partitions)})
    try:
        ends = await reader.end_offsets()
        while any(reader.positions().get(tp, 0) < end for tp, end in ends.items()):
            records = await reader.poll(BATCH, _SILENCE_MS)
            if not records:
                break
            for record in records:
                try:
                    content = decode_content(record.value)
                    space.put(content.content_id, content.embedding)
                except (BadEvent, ValueError):
                    continue
    finally:
        await reader.stop()


def _described(asked: Asked, loaded: Loaded | None) -> str:
    parts: list[str] = [asked.policy]
    if asked.policy == "snapshot" and loaded is not None:
        parts = [loaded.name, f"rule {asked.rule}"]
    parts += [f"T = {asked.temperature}"] if asked.temperature is not None else []
    parts += [f"ε = {asked.epsilon}"] if asked.epsilon is not None else []
    return ", ".join(parts)


def _notes(options: Options, loaded: Loaded | None, trained: int, bad: Sequence[str], has_vectors: bool) -> list[str]:
    notes = []
    if trained and loaded is not None:
        notes.append(
            f"{loaded.name} was trained on {trained:,} of these impressions: this is a fit, not an evaluation."
        )
    if loaded is not None and (options.file is not None or not has_vectors):
        notes.append("Contents were scored without text vectors: those come from the topic moard.contents alone.")
    if bad:
        notes.append(f"{len(bad):,} events could not be read, the first: {bad[0]}")
    return notes
