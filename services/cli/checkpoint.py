"""``moard checkpoint``: what the learner can go on from."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from libs.errors import RefusedStart
from services.learner import checkpoint_files
from services.learner.checkpoint_files import Manifest
from services.learner.epochs import fence

checkpoint = typer.Typer(
    name="checkpoint", help="List, verify and restore what the learner goes on from.", no_args_is_help=True
)
DAMAGED = 1
"""Exit code when a checkpoint is not what was written."""

Folder = Annotated[
    Path | None, typer.Option(help="Folder of the checkpoints; MOARD_LEARNER_CHECKPOINT_PATH by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@checkpoint.command("list")
def show(folder: Folder = None, json: Json = False) -> None:
    """Show the checkpoints, newest first."""
    root = _root(folder)
    rows = [_described(root, name) for name in checkpoint_files.names(root)]
    if json:
        typer.echo(orjson.dumps(rows).decode())
        return
    if not rows:
        typer.echo(f"There is no checkpoint in {root}. The learner writes one after each interval.")
        return
    table = Table(box=None)
    table.add_column("name", no_wrap=True)
    for title in ("made", "step", "events learned", "offsets", "MB"):
        table.add_column(title)
    for row in rows:
        if "damaged" in row:
            table.add_row(row["name"], f"damaged: {row['damaged']}")
            continue
        offsets = ", ".join(f"{partition}: {offset:,}" for partition, offset in row["offsets"].items())
        counts = [f"{row[name]:,}" for name in ("step", "events")]
        table.add_row(row["name"], row["created"], *counts, offsets, f"{row['bytes'] / 1e6:,.1f}")
    Console().print(table)


@checkpoint.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One of them; all by default.")] = None, folder: Folder = None
) -> None:
    """Read every file of a checkpoint, or of all, and compare it with what was written."""
    root = _root(folder)
    names = [name] if name else checkpoint_files.names(root)
    damaged = 0
    for each in track(names, "reading", console=Console(stderr=True), transient=True):
        try:
            checkpoint_files.verify(root, each)
            typer.echo(f"{each}: whole")
        except (OSError, ValueError) as error:
            damaged += 1
            typer.echo(f"{each}: {error}", err=True)
    if damaged:
        raise typer.Exit(DAMAGED)


@checkpoint.command()
def restore(
    name: Annotated[str, typer.Argument(help="As `moard checkpoint list` shows it.")], folder: Folder = None
) -> None:
    """Make an older checkpoint the newest: the learner's next start goes on from there.

    Events after it are read again from Kafka. A learner that still runs is fenced by this and ends.
    """
    root = _root(folder)
    if name not in checkpoint_files.names(root):
        raise RefusedStart(f"there is no checkpoint {name!r} in {root}; moard checkpoint list names them")
    began = time.monotonic()
    try:
        verified = checkpoint_files.verify(root, name)
        made = checkpoint_files.revive(root, verified, fence(root))
    except (OSError, ValueError) as error:
        raise RefusedStart(
            f"{name} cannot be restored: {error}. Choose one that moard checkpoint verify finds whole"
        ) from error
    typer.echo(
        f"{name} is now {made.name}, the newest ({time.monotonic() - began:.1f} s). Start the learner to go on from it."
    )


def _root(folder: Path | None) -> Path:
    if folder is not None:
        return folder
    from libs.adapters.settings import load_settings
    from services.learner.settings import Settings

    return Path(load_settings(Settings).learner_checkpoint_path)


def _described(root: Path, name: str) -> dict[str, Any]:
    try:
        manifest = Manifest.decode((root / name / "manifest.json").read_bytes())
        size = checkpoint_files.size_bytes(root, manifest)
    except (OSError, ValueError) as error:
        return {"name": name, "damaged": str(error)}
    return {
        "name": name,
        "created": datetime.fromtimestamp(manifest.created_ms / 1_000, UTC).isoformat(timespec="seconds"),
        "step": manifest.step,
        "events": sum(segment.count for segment in manifest.ledger),
        "offsets": dict(manifest.offsets),
        "bytes": size,
    }
