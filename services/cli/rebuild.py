"""``moard rebuild``: learn a range of the past again, into a model line of its own."""

import asyncio
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from libs.errors import RefusedStart

INTERRUPTED: Final = 1
"""Exit code when it was stopped before it was through; the same command goes on."""

FOLDER: Final = Path(".moard/rebuilds")
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def rebuild(
    model: Annotated[str, typer.Option(help="Name of the new model line, and of its snapshot.")],
    start: Annotated[
        str | None, typer.Option("--from", help="First event: a time, epoch ms, or partition:offset,… (the beginning).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="First event not learned any more, likewise (the end as it is now).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights and of sampling.")] = 0,
    file: Annotated[Path | None, typer.Option(help="An export instead of the topic (moard events export).")] = None,
    folder: Annotated[
        Path | None, typer.Option(help=f"Of its checkpoints; {FOLDER}/<model> if not given. Never the live learner's.")
    ] = None,
    without_contents: Annotated[
        bool,
        typer.Option("--without-contents", help="Contents have no text vectors: the catalogue is not read."),
    ] = False,
    only_file: Annotated[
        bool, typer.Option("--only-file", help="Write the snapshot into the folder, and nothing to Redis or SQL.")
    ] = False,
) -> None:
    """Learn a range of the log again, with the settings of the learner (MOARD_LEARNER_…), beside the live one.

    The same range, seed, settings and catalogue give the same weights, bit for bit, however often it was interrupted;
    the same command goes on where it stopped.
    """
    # Before numpy and torch read it: products of one thread alone repeat bit for bit.
    for variable in _THREADS:
        os.environ[variable] = "1"
    from services.cli.evaluation_input import Bound, Range
    from services.cli.rebuild_session import Options, run

    if re.fullmatch(_NAME, model) is None or model == "latest" or model.startswith("snapshot-"):
        raise RefusedStart(
            f"--model {model}: give letters, digits, dots, dashes and underscores, at most 64, beginning with a letter "
            "or digit; latest and snapshot-… are names that moard gives"
        )
    wanted = Range(Bound.parse(start, "--from"), Bound.parse(end, "--to"))
    options = Options(
        model, wanted, (start or "", end or ""), seed, file, folder or FOLDER / model, without_contents, only_file
    )
    say = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=say, transient=True) as bar:
        done = asyncio.run(run(options, bar))
    if done is None:
        say.print(f"Stopped, and saved in {options.folder}: the same command goes on from there.")
        raise typer.Exit(INTERRUPTED)
    done.show(Console(highlight=False))
