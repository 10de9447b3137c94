"""A rebuild from the command line: opens what has to be read and written, and closes it again."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from libs.adapters.event_log import KafkaPartitionReader, KafkaTopicAdmin
from libs.adapters.model_store import SqlModelStore
from libs.adapters.ports import SnapshotMeta
from libs.adapters.settings import load_settings
from libs.adapters.snapshot_store import RedisSnapshotStore
from libs.adapters.telemetry import configure_logging
from libs.errors import RefusedStart
from libs.events.topics import CONTENTS, EVENTS
from services.cli.evaluation_input import Range
from services.cli.export_reader import ExportReader
from services.cli.rebuild_line import publish, published, require_free, write
from services.cli.rebuild_plan import Plan
from services.cli.rebuild_run import Rebuilt, Source, learned, learning_settings, planned, taken
from services.learner.process import prepare_interpreter
from services.learner.settings import Settings

GROUP = "moard-rebuild"
"""Consumer group id of the readers here; nothing is ever committed under it."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said."""

    model: str
    wanted: Range
    asked: tuple[str, str]
    seed: int
    file: Path | None
    folder: Path
    without_contents: bool
    only_file: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it."""

    options: Options
    plan: Plan
    rebuilt: Rebuilt
    file: Path
    meta: SnapshotMeta

    def show(self, console: Console) -> None:
        """Print what came out, and what to do with it."""
        rebuilt, model, folder = self.rebuilt, self.options.model, self.options.folder
        console.print(
            f"{self.plan.events:,} events learned, {rebuilt.unusable:,} of them cannot be decoded.", soft_wrap=True
        )
        console.print(
            f"{rebuilt.manifest.step:,} updates, {rebuilt.rows:,} rows, weights {rebuilt.weights}", soft_wrap=True
        )
        console.print(f"snapshot  {self.file}", soft_wrap=True)
        if self.options.only_file:
            console.print(f"evaluate  moard evaluate --policy snapshot --snapshot {self.file}", soft_wrap=True)
            return
        ends = ",".join(f"{tp.partition}:{span.end}" for tp, span in sorted(self.plan.of(EVENTS).items()))
        lines = [
            f"published as snapshot {self.meta.version} of model line {model}, and kept as {model}",
            f"evaluate  MOARD_MODEL_NAME={model} moard evaluate --policy snapshot --from {ends}",
            f"rank      POST /api/v1/model/change?model_name={model} on serving; model_name=latest goes back",
            f"learn on  MOARD_MODEL_NAME={model} MOARD_LEARNER_CHECKPOINT_PATH={folder} python -m services.learner",
        ]
        for line in lines:
            console.print(line, soft_wrap=True)


async def run(options: Options, bar: Progress) -> Done | None:
    """Rebuild; None when it was interrupted. Raises ``RefusedStart`` with the option at fault and the remedy."""
    settings = load_settings(Settings)
    configure_logging("error")
    prepare_interpreter()
    _refuse_live(options, settings)
    async with contextlib.AsyncExitStack() as closing:
        source = await _source(options, settings, closing)
        own = learning_settings(settings, options.folder, options.model, options.seed, source)
        plan = await planned(options.folder, own, source, options.wanted, options.asked)
        stores = None if options.only_file else await _stores(options, settings, closing)
        if stores is not None:
            await require_free(options.model, plan, *stores)
        unusable = await learned(plan, own, source, bar)
        if unusable is None:
            return None
        rebuilt = await asyncio.to_thread(taken, options.folder, own, unusable)
        if stores is None:
            snapshot = published(rebuilt, plan, time.time_ns() // 1_000_000, rebuilt.manifest.epoch)
        else:
            snapshot = await publish(rebuilt, plan, *stores)
        return Done(options, plan, rebuilt, await write(snapshot, options.folder), snapshot.meta)


def _refuse_live(options: Options, settings: Settings) -> None:
    if options.model == settings.model_name:
        raise RefusedStart(f"--model {options.model} is the live model line (MOARD_MODEL_NAME): choose another name")
    if options.folder.absolute() == Path(settings.learner_checkpoint_path).absolute():
        raise RefusedStart(
            f"--folder {options.folder} is the live learner's (MOARD_LEARNER_CHECKPOINT_PATH): choose another one"
        )


async def _source(options: Options, settings: Settings, closing: contextlib.AsyncExitStack) -> Source:
    events: KafkaPartitionReader | ExportReader = KafkaPartitionReader(settings.kafka, GROUP)
    identity, events_partitions, contents_partitions = "", 0, 1
    if options.file is None or not options.without_contents:
        admin = KafkaTopicAdmin(settings.kafka)
        closing.push_async_callback(admin.close)
        identity = await admin.cluster_id()
        events_partitions = await admin.partitions(EVENTS)
        contents_partitions = await admin.partitions(CONTENTS)
    if options.file is not None:
        events = ExportReader(options.file, options.wanted)
        await asyncio.to_thread(events.look)
        identity, events_partitions = events.sha256, len(events.spans)
    closing.push_async_callback(events.stop)
    catalogue = None if options.without_contents else KafkaPartitionReader(settings.kafka, GROUP)
    if catalogue is not None:
        closing.push_async_callback(catalogue.stop)
    return Source(events, catalogue, identity, events_partitions, contents_partitions)


async def _stores(
    options: Options, settings: Settings, closing: contextlib.AsyncExitStack
) -> tuple[RedisSnapshotStore, SqlModelStore]:
    line = RedisSnapshotStore(settings.redis_url, options.model)
    models = SqlModelStore(settings.database_url, settings.model_name)
    closing.push_async_callback(line.close)
    closing.push_async_callback(models.close)
    return line, models
