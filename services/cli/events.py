"""``moard events``: a range of the topic as a file, and back."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from libs.events.topics import EVENTS

if TYPE_CHECKING:  # for a help text nobody waits for a broker's client or for numpy
    from services.cli.evaluation_input import Range
    from services.cli.event_export import ExportFile, Progressed, StandardOutput
    from services.cli.event_import import Imported

GROUP: Final = "moard-events"
"""Consumer group id of the readers here; nothing is ever committed under it."""

events = typer.Typer(name="events", help="Export events to JSON lines, and import them.", no_args_is_help=True)
INCOMPLETE: Final = 1
"""Exit code when some events or lines could not be used; the others were."""

Start = Annotated[
    str | None, typer.Option("--from", help="First event: a time, epoch ms, or partition:offset,… (the beginning).")
]
End = Annotated[
    str | None, typer.Option("--to", help="First event that does not belong to it, likewise (the end as it is now).")
]


@events.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="JSON lines, compressed if it ends in .gz; - is standard output.")],
    start: Start = None,
    end: End = None,
) -> None:
    """Write a range of moard.events to a file, in the order of the log; the same range gives the same bytes.

    Interrupted, the same command goes on where it stopped. Exit code 1 when events of the range cannot be decoded:
    those are listed, and left out.
    """
    from services.cli import event_export
    from services.cli.evaluation_input import Bound, Range

    sink = event_export.sink_of(file)
    wanted = Range(Bound.parse(start, "--from"), Bound.parse(end, "--to"))
    with _progress() as bar, _pipe():
        done = asyncio.run(_export(sink, wanted, (start or "", end or ""), bar))
    say = Console(stderr=True, highlight=False)
    _list(say, done.reasons, done.unusable)
    say.print(f"{done.lines:,} events written, {done.unusable:,} left out that cannot be decoded.")
    if done.unusable:
        raise typer.Exit(INCOMPLETE)


@events.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="JSON lines of `moard events export`, or of events; - is standard input.")
    ],
) -> None:
    """Append the events of a file to moard.events, each once: what the topic holds already is left out.

    Events keep their time and their id, and go to the partition of their user. Interrupted, the same command goes on
    where it stopped. Exit code 1 when there were lines that cannot be used: those are listed, and nothing else is lost.
    """
    from services.cli.event_lines import STANDARD, is_compressed, opened

    with opened(file) as lines, _progress() as bar:
        countable = file != STANDARD and not is_compressed(file)
        size = os.fstat(lines.fileno()).st_size if countable else None
        done = asyncio.run(_import(lines, bar, size))
    say = Console(stderr=True, highlight=False)
    _list(say, done.reasons, done.refused)
    say.print(
        f"{done.appended:,} events appended, {done.known:,} were there already, {done.refused:,} lines cannot be used."
    )
    if done.refused:
        say.print("Repair those lines and import the file again: what is there by now is left out.")
        raise typer.Exit(INCOMPLETE)


async def _export(
    sink: "ExportFile | StandardOutput", wanted: "Range", asked: tuple[str, str], bar: Progress
) -> "Progressed":
    from libs.adapters.event_log import KafkaPartitionReader, KafkaTopicAdmin
    from libs.adapters.ports import TopicPartition
    from libs.adapters.settings import StackSettings, load_settings
    from services.cli import event_export
    from services.cli.range_reader import spans_of

    broker = load_settings(StackSettings).kafka
    admin, reader = KafkaTopicAdmin(broker), KafkaPartitionReader(broker, GROUP)
    try:
        cluster_id, partitions = await admin.cluster_id(), await admin.partitions(EVENTS)
        state = sink.begun(cluster_id, asked)
        if state is None:
            spans = await spans_of(reader, [TopicPartition(EVENTS, number) for number in range(partitions)], wanted)
            await reader.stop()
            ordered = tuple(spans[TopicPartition(EVENTS, number)] for number in range(partitions))
            state = event_export.Progressed(cluster_id, asked, ordered, tuple(span.start for span in ordered))
        return await event_export.export(reader, state, sink, bar)
    finally:
        await reader.stop()
        await admin.close()


async def _import(lines: IO[bytes], bar: Progress, size: int | None) -> "Imported":
    from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer, KafkaTopicAdmin, topic_specs
    from libs.adapters.settings import StackSettings, load_settings
    from services.cli.event_import import KnownIds, import_lines
    from services.cli.event_lines import lines_of

    settings = load_settings(StackSettings)
    admin, producer = KafkaTopicAdmin(settings.kafka), KafkaProducer(settings.kafka)
    reader, known = KafkaPartitionReader(settings.kafka, GROUP), KnownIds()
    try:
        await admin.ensure(topic_specs(settings))
        await known.read(reader, settings.events_partitions, bar)
        await producer.start()
        return await import_lines(lines_of(lines), known, producer, bar, size)
    finally:
        await reader.stop()
        await producer.stop()
        await admin.close()


@contextmanager
def _pipe() -> Iterator[None]:
    """End quietly when whoever reads our output has had enough."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain while it exits
        raise typer.Exit(INCOMPLETE) from None


def _list(say: Console, reasons: Sequence[str], count: int) -> None:
    for reason in reasons:
        say.print(reason, markup=False)
    if count > len(reasons):
        say.print(f"… and {count - len(reasons):,} more")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
