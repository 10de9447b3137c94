"""``moard status``: what runs, how it is, and how fresh the rankings are."""

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.errors import StoreUnavailable
from services.cli.stack import STACK_FOLDER, Folder

NOT_WELL: Final = 1
"""Exit code when Redis does not answer while servers of the local stack run, or a service is silent or complains."""

_SILENT_S: Final = 5.0  # services say every second how they are
_SHARES: Final = {"p50": 0.5, "p95": 0.95}
_MS_PER_MINUTE: Final = 60_000

console = Console()
Services = Sequence[Mapping[str, Any]]


def status(
    folder: Folder = STACK_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what runs: servers of the local stack, services and their snapshots, lag and freshness.

    Services say each second through Redis how they are. Exit code 1 when one is silent or complains, or when Redis does
    not answer although servers run here.
    """
    from infra.run_state import RunState

    servers = RunState(folder.absolute()).running()
    services, away = _services()
    if as_json:
        local = {name: {"pid": each.identity.pid, "ports": list(each.ports)} for name, each in servers.items()}
        told = {"stack": local, "services": services, "freshness_s": _freshness(services), "redis": away or "ok"}
        typer.echo(orjson.dumps(told).decode())
    elif not servers and not services:
        console.print("Nothing runs. Start it with: moard up")
    else:
        table = Table("server", "pid", "ports", box=None)
        for name, each in servers.items():
            table.add_row(name, str(each.identity.pid), ", ".join(map(str, each.ports)))
        if servers:
            console.print(table)
        _print_services(services, away)
    if (away and servers) or any(_problem(each) for each in services):
        raise typer.Exit(NOT_WELL)


def _services() -> tuple[list[dict[str, Any]], str]:
    """Return what services say of themselves, and why they cannot be asked."""
    from libs.adapters.settings import StackSettings, load_settings
    from libs.adapters.status_board import RedisStatusBoard

    url = load_settings(StackSettings).redis_url

    async def read() -> list[dict[str, Any]]:
        board = RedisStatusBoard(url)
        try:
            return [orjson.loads(each.status) | {"silent_s": each.age_s} for each in await board.all()]
        finally:
            await board.close()

    try:
        return asyncio.run(read()), ""
    except StoreUnavailable as error:
        return [], str(error)


def _print_services(services: Services, away: str) -> None:
    if away:
        console.print(f"What services run is not known: {escape(away)}. See REDIS_URL.")
        return
    if not services:
        console.print("No service has said anything for a minute: python -m services.ingest, .learner, .serving")
        return
    table = Table("service", "instance", "state", "since", "what it does", box=None)
    for each in services:
        problem = _problem(each)
        state = f"[red]{escape(problem)}[/red]" if problem else "ok"
        minutes = (each["at_ms"] - each["started_ms"]) / _MS_PER_MINUTE
        table.add_row(each["service"], each["instance"], state, f"{minutes:,.0f} min", _does(each))
    console.print(table)
    fresh = _freshness(services)
    if fresh:
        told = ", ".join(f"{share} within {seconds:,.2f} s" for share, seconds in fresh.items())
        console.print(f"From a click to rankings that learned from it: {told}")


def _problem(status: Mapping[str, Any]) -> str:
    if status["silent_s"] > _SILENT_S:
        return f"silent for {status['silent_s']:.0f} s"
    health = status["health"]
    alarms = [f"{alarm['alarm']}: {alarm['remedy']}" for alarm in health["alarms"]]
    waits = [f"waits for {', '.join(health['waiting_for'])}"] if health["waiting_for"] else []
    return "; ".join([*alarms, *waits]) or ("" if health["state"] == "ok" else health["state"])


def _does(status: Mapping[str, Any]) -> str:
    if status["service"] == "learner":
        lag, snapshot, checkpoint = status["lag"], status["snapshot"], status["checkpoint"]
        behind = f"lag {lag['records'] or 0:,.0f} records, {lag['seconds'] or 0:,.1f} s"
        learned = f"{status['updates'] or 0:,.0f} updates, {status['replay_rows'] or 0:,.0f} rows"
        kept = f"snapshot {snapshot['version'] or 0:.0f}, checkpoint {checkpoint['age_s'] or 0:,.0f} s old"
        return f"{behind}; {learned}; {kept}"
    if status["service"] == "serving":
        snapshot = status["snapshot"]
        pinned = f", pinned as {snapshot['pin']}" if snapshot["pin"] else ""
        age = f", {snapshot['age_s']:,.1f} s old" if snapshot["age_s"] is not None else ""
        rate = f"{status['rankings_per_s'] or 0:,.1f} rankings/s"
        return f"snapshot {snapshot['version'] or 0:.0f}{age}{escape(pinned)}; {rate}"
    lag = sum(each["lag_records"] or 0 for each in status["projector"]["partitions"])
    accepted = status["events_per_s"].get("accepted") or 0
    return f"{accepted:,.1f} events/s, {status['buffer_records'] or 0:,.0f} waiting; projector lag {lag:,.0f} records"


def _freshness(services: Services) -> dict[str, float]:
    """Return, for each share of clicks, within how many seconds the slowest serving worker had learned from them."""
    found: dict[str, float] = {}
    for each in services:
        for share, seconds in _quantiles(each.get("freshness")).items():
            found[share] = max(seconds, found.get(share, 0.0))
    return found


def _quantiles(histogram: Mapping[str, Any] | None) -> dict[str, float]:
    """Return upper bounds of the buckets that hold these shares; the last bound where they lie beyond it."""
    if not histogram or not histogram["counts"] or not histogram["counts"][-1]:
        return {}
    counts, bounds = histogram["counts"], histogram["bounds_s"]
    reached = {name: bisect_left(counts, share * counts[-1]) for name, share in _SHARES.items()}
    return {name: bounds[min(at, len(bounds) - 1)] for name, at in reached.items()}
