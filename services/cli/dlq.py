"""``moard dlq``: look at the records that could not be used, and send them again once they can."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.errors import RefusedStart

if TYPE_CHECKING:
    from libs.adapters.dead_letters import DeadLetters, Wanted
    from libs.adapters.settings import StackSettings
    from libs.events.dead_letters import Letter
    from services.cli.dlq_replay import Tally

AnswerT = TypeVar("AnswerT")

_HEX_BYTES = 1_024  # of a value that is no JSON: enough to recognise it by
_HEX_ROW = 32

dlq = typer.Typer(help="Dead letters: records that could not be used.", no_args_is_help=True)
console = Console()
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Reason = Annotated[
    str | None, typer.Option(help="Only this reason: json, schema, field, type, oversize or poison.", metavar="WORD")
]
Topic = Annotated[str | None, typer.Option(help="Only records that came from this topic.")]
Partition = Annotated[int | None, typer.Option(min=0, help="Only records that came from this partition.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only letters from this time on: 2026-01-31T08:00 (UTC), or epoch milliseconds."),
]


@dlq.command("list")
def list_letters(
    reason: Reason = None,
    topic: Topic = None,
    partition: Partition = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the newest dead letters, newest first."""
    wanted = _wanted(reason, topic, partition, since)
    found = _with_letters(lambda letters, _: letters.newest(limit, wanted))
    if as_json:
        typer.echo(json.dumps([_public(letter) for letter in found]))
        return
    if not found:
        console.print("No dead letters" + (" that fit." if any((reason, topic, partition is not None, since)) else "."))
        return
    table = Table("id", "since", "reason", "from", "key", "what is wrong")
    for letter in found:
        row = (letter.id, _moment(letter.append_ms), letter.reason, _from(letter), _text(letter.key), letter.detail)
        table.add_row(*(escape(_plain(cell)) for cell in row))
    console.print(table)


@dlq.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `moard dlq list` shows it.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: what is wrong, its headers and its value."""
    from services.cli.dlq_replay import readable

    letter = _found(letter_id)
    if as_json:
        whole = base64.b64encode(letter.value or b"").decode()
        own = {name: text.decode(errors="backslashreplace") for name, text in letter.own}
        content = {"headers": own, "value": readable(letter.value), "value_base64": whole}
        typer.echo(json.dumps({**_public(letter), **content}))
        return
    for name, text in (*_public(letter).items(), *((name, _text(text)) for name, text in letter.own)):
        console.print(f"[bold]{escape(_plain(name)):>16}[/bold]  {escape(_plain(str(text)))}", highlight=False)
    console.print()
    document = readable(letter.value)
    if document is not None:
        typer.echo(json.dumps(document, indent=2))
    else:
        typer.echo(_hex(letter.value or b""))


@dlq.command()
def replay(
    reason: Reason = None,
    topic: Topic = None,
    partition: Partition = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge every letter, send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to the topics they came from, oldest first.

    Only what can be used by now is sent. Events keep their ids, so that one sent twice is learned once.
    """
    wanted = _wanted(reason, topic, partition, since)
    tally = _with_letters(lambda letters, settings: _replay(letters, settings, wanted, dry_run))
    if as_json:
        counts = {"letters": tally.letters, "sent": dict(tally.sent), "skipped": dict(tally.skipped)}
        typer.echo(json.dumps({**counts, "dry_run": dry_run}))
        return
    _report(tally, dry_run)


def _report(tally: "Tally", dry_run: bool) -> None:
    from services.cli.dlq_replay import SKIPPED

    console.print(f"{tally.letters} dead letters that fit")
    for topic, count in sorted(tally.sent.items()):
        console.print(f"{count:>8} {'would be sent' if dry_run else 'sent'} to {escape(topic)}")
    for why, count in sorted(tally.skipped.items()):
        console.print(f"{count:>8} not sent, {why}: {SKIPPED[why]}")


async def _replay(letters: "DeadLetters", settings: "StackSettings", wanted: "Wanted", dry_run: bool) -> "Tally":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from libs.adapters.dead_letters import GROUP
    from libs.adapters.event_log import KafkaPartitionReader, KafkaProducer
    from services.cli.dlq_replay import Replay

    producer = None if dry_run else KafkaProducer(settings.kafka)
    catalogue = (lambda: KafkaPartitionReader(settings.kafka, GROUP)), settings.contents_partitions
    work = Replay(letters, producer, catalogue, settings.vector_size)
    columns = (TextColumn("dead letters"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        if producer is not None:
            await producer.start()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)

            def progress(read: int, total: int) -> None:
                bar.update(task, total=total, advance=read)

            await work.run(wanted, progress)
    finally:
        if producer is not None:
            await producer.stop()
    return work.tally


def _found(letter_id: str) -> "Letter":
    partition, _, offset = letter_id.rpartition(":")
    if not (partition or "0").isdecimal() or not offset.isdecimal():
        raise typer.BadParameter("an id is PARTITION:OFFSET, as moard dlq list shows it", param_hint="ID")
    letter = _with_letters(lambda letters, _: letters.letter(int(partition or 0), int(offset)))
    if letter is None:
        raise RefusedStart(f"there is no dead letter {letter_id}: see moard dlq list")
    return letter


def _with_letters(work: "Callable[[DeadLetters, StackSettings], Awaitable[AnswerT]]") -> AnswerT:
    from libs.adapters.dead_letters import GROUP, DeadLetters
    from libs.adapters.event_log import KafkaPartitionReader, KafkaTopicAdmin
    from libs.adapters.settings import StackSettings, load_settings
    from libs.events.topics import DEAD_LETTERS

    settings = load_settings(StackSettings)

    async def worked() -> AnswerT:
        admin = KafkaTopicAdmin(settings.kafka)
        try:
            partitions = await admin.partitions(DEAD_LETTERS)
        finally:
            await admin.close()
        return await work(DeadLetters(lambda: KafkaPartitionReader(settings.kafka, GROUP), partitions), settings)

    return asyncio.run(worked())


def _wanted(reason: str | None, topic: str | None, partition: int | None, since: str | None) -> "Wanted":
    from libs.adapters.dead_letters import Wanted
    from libs.adapters.metrics import DEAD_LETTER_REASONS
    from services.cli.evaluation_input import Bound

    if reason is not None and reason not in DEAD_LETTER_REASONS:
        raise typer.BadParameter(f"one of {', '.join(DEAD_LETTER_REASONS)}", param_hint="--reason")
    since_ms = Bound.parse(since, "--since").at_ms
    if since is not None and since_ms is None:
        raise typer.BadParameter("give a time, 2026-01-31T08:00 or epoch milliseconds", param_hint="--since")
    return Wanted(reason, topic, partition, since_ms)


def _public(letter: "Letter") -> dict[str, Any]:
    return {
        "id": letter.id,
        "append_ms": letter.append_ms,
        "reason": letter.reason,
        "error": letter.error,
        "field": letter.field,
        "detail": letter.detail,
        "schema": letter.schema,
        "origin_topic": letter.origin.topic,
        "origin_partition": letter.origin.partition,
        "origin_offset": letter.origin.offset,
        "origin_ms": letter.origin_ms,
        "key": None if letter.key is None else _text(letter.key),
        "bytes": len(letter.value or b""),
        "truncated_from": letter.truncated_from,
    }


def _from(letter: "Letter") -> str:
    known = [number for number in letter.origin[1:] if number >= 0]
    return " ".join((letter.origin.topic or "?", ":".join(map(str, known))))


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="backslashreplace")


def _plain(text: str) -> str:
    """Return text that cannot steer a terminal: whoever may produce a record may have written it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _hex(data: bytes) -> str:
    rows = [data[start : start + _HEX_ROW].hex(" ") for start in range(0, min(len(data), _HEX_BYTES), _HEX_ROW)]
    more = [f"… {len(data) - _HEX_BYTES} bytes more: --json has them"] if len(data) > _HEX_BYTES else []
    return "\n".join(rows + more) or "(no value)"


def _moment(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
