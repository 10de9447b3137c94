"""``moard doctor``: the mistakes that are made most, found before they cost anything."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from libs.errors import RefusedStart

if TYPE_CHECKING:
    from services.cli.diagnosis import Finding

FOUND: Final = 1
"""Exit code when something is wrong."""

console = Console()
_MARKS: Final = {"ok": "[green]ok[/green]", "mistake": "[red]mistake[/red]", "unknown": "[yellow]unknown[/yellow]"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Look for common mistakes, and say the remedy of each.

    Settings that refuse a start; servers that do not answer; missing topics, wrong partition counts, clocks and
    clean-up; auto-created topics; producers with another partitioner; clocks that differ; Redis that evicts; tables
    that are not migrated; contents without vectors; alarms of running services. Nothing is written anywhere.

    Exit code 0 when all is well, 1 when something is not.
    """
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("looking", total=None)
        found = asyncio.run(examination(lambda: bar.advance(task)))
    if as_json:
        typer.echo(orjson.dumps([asdict(each) for each in found]).decode())
    else:
        console.print(_table(found))
    if any(each.state == "mistake" for each in found):
        raise typer.Exit(FOUND)


async def examination(
    done: Callable[[], object] = lambda: None, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> "list[Finding]":
    """Return everything that was looked at, as the settings of this process say."""
    from libs.adapters.settings import StackSettings, load_settings
    from services.cli.diagnose_kafka import kafka_check
    from services.cli.diagnose_settings import settings_check
    from services.cli.diagnose_stores import database_check, redis_check, services_check
    from services.cli.diagnosis import examined

    try:
        settings = load_settings(StackSettings)
    except RefusedStart:
        return await settings_check()  # where the servers are is not known
    checks = [kafka_check(settings, clock_ms), redis_check(settings, clock_ms), database_check(settings, clock_ms)]
    return await examined([settings_check, *checks, services_check(settings)], done)


def _table(found: "list[Finding]") -> Table:
    table = Table("", "what", "how it is", box=None)
    for each in found:
        detail = escape(each.detail) + (f"\n[bold]→ {escape(each.remedy)}[/bold]" if each.remedy else "")
        table.add_row(_MARKS[each.state], escape(each.check), detail)
    return table
