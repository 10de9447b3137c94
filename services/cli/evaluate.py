"""``moard evaluate``: what another policy is worth, from what was logged (rl.md §7)."""

import asyncio
import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from libs.errors import RefusedStart

REFUSED: Final = 2


class PolicyName(StrEnum):
    """The policies that can be asked about."""

    UNIFORM = "uniform"
    LOGGED = "logged"
    EXPLOIT = "exploit"
    SNAPSHOT = "snapshot"


class RuleName(StrEnum):
    """Ranking rules."""

    VALUE = "value"
    A = "a"
    P = "p"


def evaluate(
    file: Annotated[Path | None, typer.Option(help="JSON lines of events instead of the topic.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="First event: a time, epoch ms, or partition:offset,… (the beginning).")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="First event not evaluated any more, likewise (the end).")
    ] = None,
    policy: Annotated[
        PolicyName,
        typer.Option(help="uniform: at random; logged: as served; exploit: half the temperature, ε 0; snapshot."),
    ] = PolicyName.EXPLOIT,
    temperature: Annotated[float | None, typer.Option(help="Of the policy; as logged if not given.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of the policy; as logged if not given.")] = None,
    rule: Annotated[RuleName, typer.Option(help="What the snapshot ranks by.")] = RuleName.VALUE,
    version: Annotated[int | None, typer.Option(help="Snapshot in Redis; the current one if not given.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Snapshot file, .safetensors, instead of Redis.")] = None,
    allow_trained: Annotated[bool, typer.Option("--allow-trained", help="Also judge what was trained on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document for programs.")] = False,
) -> None:
    """Estimate what a policy would have earned, from what was logged while another one served.

    Joins impressions and interactions the way the learner does, with its settings (MOARD_LEARNER_…). Exit code 2 when
    nothing that may be quoted came out.
    """
    # Before numpy reads it. Products this small cost 19 s of processor time on two busy threads and 2 s on one.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    import orjson

    from services.cli.evaluation_input import Bound, Range
    from services.cli.evaluation_session import Options, run
    from services.cli.evaluation_target import Asked

    if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
        raise RefusedStart(f"--temperature {temperature}: must be above 0")
    if epsilon is not None and not 0 <= epsilon <= 1:
        raise RefusedStart(f"--epsilon {epsilon}: must lie between 0 and 1")
    if version is not None and snapshot is not None:
        raise RefusedStart("--version and --snapshot both name a snapshot: give one of them")
    wanted = Range(Bound.parse(start, "--from"), Bound.parse(end, "--to"))
    asked = Asked(policy.value, rule.value, temperature, epsilon)
    report = asyncio.run(run(Options(file, wanted, asked, version, snapshot, allow_trained)))
    if as_json:
        typer.echo(orjson.dumps(report.document(), option=orjson.OPT_INDENT_2))
    else:
        report.show(Console())
    if report.refused:
        sys.exit(REFUSED)
