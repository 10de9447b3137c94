"""``moard model``: which snapshot ranks, and which are kept. Serving's own administration, on the same stores."""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.errors import ModelConflict, NoSnapshot, RefusedStart

if TYPE_CHECKING:
    from services.serving.models import Ancestor, Models

AnswerT = TypeVar("AnswerT")

model = typer.Typer(
    help="Snapshots: list, keep, pin and delete. Every change is in the audit log.", no_args_is_help=True
)
console = Console()
Name = Annotated[str, typer.Argument(help="A kept name, as `moard model list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@model.command("list")
def list_models(as_json: Json = False) -> None:
    """Show every snapshot that can rank, newest first: what is newest, pinned, and kept under which names."""
    ancestors = _with_models(lambda models: models.lineage())
    if as_json:
        typer.echo(orjson.dumps([_public(each) for each in ancestors]).decode())
        return
    if not ancestors:
        console.print("No snapshot was published yet: the learner publishes its first after some updates.")
        return
    table = Table("version", "step", "age", "MB", "names", "", box=None)
    for each in ancestors:
        meta, age_s = each.meta, time.time() - each.meta.created_ms / 1_000
        marks = ", ".join(word for word, held in (("newest", each.current), ("pinned", each.pinned)) if held)
        size = f"{meta.size_bytes / 1e6:.2f}"
        table.add_row(str(meta.version), f"{meta.step:,}", _age(age_s), size, escape(", ".join(each.names)), marks)
    console.print(table)


@model.command()
def keep(
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, dots, dashes and underscores.")],
    version: Annotated[int | None, typer.Option(min=1, help="Which snapshot; the newest by default.")] = None,
) -> None:
    """Keep a snapshot under a name, beyond retention and an emptied Redis."""

    async def kept(models: "Models") -> int:
        if version is None:
            return await models.keep(name, *_asked())
        await models.keep_version(version, name, *_asked())
        return version

    console.print(f"Snapshot {_with_models(kept)} is kept as {escape(name)}.")


@model.command()
def pin(which: Annotated[str, typer.Argument(metavar="NAME|VERSION", help="As `moard model list` shows it.")]) -> None:
    """Roll back, or hold: let one snapshot rank in every worker, until `moard model unpin`."""

    def pinned(models: "Models") -> Awaitable[Any]:
        if which.isdecimal():
            return models.pin_version(int(which), *_asked())
        return models.pin_name(which, *_asked())

    held = _with_models(pinned)
    console.print(f"{escape(str(held.name))} is pinned: snapshot {held.version} ranks in every worker within a second.")


@model.command()
def unpin() -> None:
    """Follow the learner again. Doing so twice is no error."""
    done = _with_models(lambda models: models.unpin(*_asked()))
    console.print("The newest snapshot ranks again." if done else "Nothing was pinned.")


@model.command()
def delete(name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Forget a kept snapshot; the pinned one cannot be."""
    if not yes:
        typer.confirm(f"Forget {name!r} for good?", abort=True)
    _with_models(lambda models: models.delete(name, *_asked()))
    console.print(f"{escape(name)} is forgotten.")


def _with_models(work: "Callable[[Models], Awaitable[AnswerT]]") -> AnswerT:
    from libs.adapters.settings import load_settings
    from services.serving.administration import administration
    from services.serving.settings import Settings

    async def worked() -> AnswerT:
        async with administration(load_settings(Settings)) as models:
            return await work(models)

    try:
        return asyncio.run(worked())
    except (NoSnapshot, ModelConflict, ValueError) as error:
        raise RefusedStart(f"{error}. See moard model list") from error


def _asked() -> tuple[str, str]:
    """Return who asks, as the audit log calls them, and a name for this request."""
    return f"cli:{getpass.getuser()}"[:128], uuid4().hex


def _public(ancestor: "Ancestor") -> dict[str, Any]:
    meta = ancestor.meta
    known = {name: getattr(meta, name) for name in ("version", "epoch", "step", "created_ms", "size_bytes", "sha256")}
    flags = {"stored": ancestor.stored, "current": ancestor.current, "pinned": ancestor.pinned}
    return known | flags | {"names": list(ancestor.names), "offsets": dict(meta.offsets)}


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} s"
