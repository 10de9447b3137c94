"""The ``moard`` command."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from libs.errors import MoardError, RefusedStart
from services.cli import doc2vec
from services.cli.checkpoint import checkpoint
from services.cli.dlq import dlq
from services.cli.evaluate import evaluate
from services.cli.events import events
from services.cli.keys import keys
from services.cli.rebuild import rebuild

REFUSED = 2
"""Exit code when moard must not start like this; the message names the setting and the remedy."""
FAILED = 1
"""Exit code when a server that was needed did not answer."""

app = typer.Typer(help="moard: self-hosted ranking that learns from a live event stream.", no_args_is_help=True)
console = Console()
Folder = Annotated[Path, typer.Option(help="Where the local stack keeps data, logs and its state file.")]
STACK_FOLDER = Path(".moard/stack")


@app.command()
def up(
    folder: Folder = STACK_FOLDER,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="Kafka, Redis and MariaDB alone, for running the services yourself.")
    ] = False,
) -> None:
    """Start moard on this machine and leave it running: Kafka, Redis, MariaDB, ingest, learner and serving.

    What runs already stays as it is. Prints the addresses as settings, and nothing else, to standard output: `moard up
    > .env` points every other command there.
    """
    from infra.local import LocalStack
    from infra.system import LocalSystem

    say = partial(typer.echo, err=True)
    if servers_only:
        environment = LocalStack(folder, detached=True).up(say).environment()
    else:
        environment = LocalSystem(folder, Path.cwd()).up(say)
    say("\nPoint other commands here: export these, or write them into .env (`moard up > .env` does).")
    for name, value in environment.items():
        typer.echo(f"{name}={value}")
    if servers_only:
        say(
            "\nNext: moard migrate, moard topics, then python -m services.ingest, services.learner and services.serving"
        )
    else:
        say("\nNext: docs/tutorial.md, or moard status. Stop it all with: moard down")


@app.command()
def down(folder: Folder = STACK_FOLDER) -> None:
    """Stop what `moard up` started. Data stays for the next time."""
    from infra.system import LocalSystem

    LocalSystem(folder, Path.cwd()).down()
    console.print("moard is down.")


@app.command()
def status(folder: Folder = STACK_FOLDER) -> None:
    """Show which servers of the local stack run, and where."""
    from infra.run_state import RunState

    table = Table("server", "pid", "ports")
    for name, server in RunState(folder.absolute()).running().items():
        table.add_row(name, str(server.identity.pid), ", ".join(map(str, server.ports)))
    console.print(table if table.row_count else "Nothing runs. Start it with: moard up")


@app.command()
def topics() -> None:
    """Create moard's Kafka topics, or bring their settings up to date."""
    from libs.adapters.event_log import ensure_topics
    from libs.adapters.settings import StackSettings, load_settings

    for spec in asyncio.run(ensure_topics(load_settings(StackSettings))):
        console.print(f"{spec.name}: {spec.partitions} partition(s)")


@app.command()
def migrate() -> None:
    """Create moard's own tables, or bring them up to date."""
    from infra.migrations import upgrade
    from libs.adapters.settings import StackSettings, load_settings

    upgrade(load_settings(StackSettings).database_url)
    console.print("The database is up to date.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def demo(context: typer.Context) -> None:
    """Watch the whole system learn on MovieLens-100K."""
    from examples.movielens.__main__ import main as run

    sys.exit(run(context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def quickstart(context: typer.Context) -> None:
    """Run the loop in one process, on in-memory twins."""
    from examples.quickstart.__main__ import main as run

    sys.exit(run(context.args))


app.command()(evaluate)
app.command()(rebuild)
app.add_typer(checkpoint)
app.add_typer(dlq, name="dlq")
app.add_typer(events)
app.add_typer(doc2vec.app, name="doc2vec")
app.add_typer(keys, name="keys")


def main() -> None:
    """Run the command; what moard foresees is a message and an exit code, not a traceback."""
    try:
        app()
    except MoardError as error:
        typer.echo(str(error), err=True)
        sys.exit(REFUSED if isinstance(error, RefusedStart) else FAILED)


if __name__ == "__main__":
    main()
