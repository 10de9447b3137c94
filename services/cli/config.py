"""``moard config``: the settings in force, and where each comes from."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

SERVICES: Final = ("ingest", "learner", "serving")

console = Console()


def config(
    service: Annotated[str | None, typer.Argument(help="ingest, learner or serving; all by default.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not at its default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the settings in force, and whether each is a default, or comes from the environment or .env.

    Secrets are masked. Exit code 2 when a service would refuse these settings; the message says which and why.
    """
    if service is not None and service not in SERVICES:
        raise typer.BadParameter(f"one of {', '.join(SERVICES)}", param_hint="SERVICE")
    found = in_force_here((service,) if service else SERVICES)
    if changed:
        found = {name: each for name, each in found.items() if each["source"] != "default"}
    if as_json:
        typer.echo(orjson.dumps(found).decode())
        return
    table = Table("variable", "value", "from", "read by", box=None)
    for name, each in found.items():
        style = None if each["source"] == "default" else "bold"
        value = ",".join(map(str, each["value"])) if isinstance(each["value"], list) else str(each["value"])
        table.add_row(name, escape(value), each["source"], ", ".join(each["services"]), style=style)
    console.print(table if found else "Everything is at its default.")


def in_force_here(services: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return value, source and readers of every setting, by variable; raises ``RefusedStart``."""
    from libs.adapters.settings import in_force, load_settings

    found: dict[str, dict[str, Any]] = {}
    for service in services:
        settings: BaseSettings = load_settings(import_module(f"services.{service}.settings").Settings)
        given = settings.model_fields_set
        for (variable, value), name in zip(in_force(settings).items(), type(settings).model_fields, strict=True):
            source = _source(variable) if name in given else "default"
            found.setdefault(variable, {"value": value, "source": source, "services": []})["services"].append(service)
    return found


def _source(variable: str) -> str:
    """Return where a setting that was given comes from: the environment wins over the file."""
    return "environment" if variable in {name.upper() for name in os.environ} else ".env"
