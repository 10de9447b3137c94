"""``moard up``, ``down``, ``topics`` and ``migrate``: everything as processes of this machine."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console()
Folder = Annotated[Path, typer.Option(help="Where the local stack keeps data, logs and its state file.")]
STACK_FOLDER = Path(".moard/stack")


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
        then = "moard migrate, moard topics, then python -m services.ingest, services.learner and services.serving"
    else:
        environment = LocalSystem(folder, Path.cwd()).up(say)
        then = "docs/tutorial.md, or moard status. Stop it all with: moard down"
    say("\nPoint other commands here: export these, or write them into .env (`moard up > .env` does).")
    for name, value in environment.items():
        typer.echo(f"{name}={value}")
    say(f"\nNext: {then}")


def down(folder: Folder = STACK_FOLDER) -> None:
    """Stop what `moard up` started. Data stays for the next time."""
    from infra.system import LocalSystem

    LocalSystem(folder, Path.cwd()).down()
    console.print("moard is down.")


def topics() -> None:
    """Create moard's Kafka topics, or bring their settings up to date."""
    from libs.adapters.event_log import ensure_topics
    from libs.adapters.settings import StackSettings, load_settings

    for spec in asyncio.run(ensure_topics(load_settings(StackSettings))):
        console.print(f"{spec.name}: {spec.partitions} partition(s)")


def migrate() -> None:
    """Create moard's own tables, or bring them up to date."""
    from infra.migrations import upgrade
    from libs.adapters.settings import StackSettings, load_settings

    upgrade(load_settings(StackSettings).database_url)
    console.print("The database is up to date.")
