"""``moard user``: what is kept of one person, and how it is forgotten."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from libs.errors import BadEvent, RefusedStart

if TYPE_CHECKING:
    from services.ingest.erasure import Requested
    from services.learner.settings import Settings

user = typer.Typer(help="Export what is kept of one user, or forget it.", no_args_is_help=True)
console = Console()
UserId = Annotated[str, typer.Argument(metavar="USER_ID", help="As events name the user.")]


@user.command()
def export(user_id: UserId) -> None:
    """Print everything kept of a user as JSON: history, events, rows of the learner, records in SQL.

    Reads the user's partition from its beginning, the newest checkpoint in the learner's folder, Redis, and the
    backend's tables. Fails rather than leave a part out because its server is away.
    """
    from services.cli.user_export import everything_of

    settings = _settings()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        reading = bar.add_task("reading the log", total=None)
        told = everything_of(user_id, settings, lambda done, total: bar.update(reading, completed=done, total=total))
        found = asyncio.run(told)
    typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


@user.command()
def delete(
    user_id: UserId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs; implies --yes.")] = False,
) -> None:
    """Forget a user: history at once, join state and rows when the learner reads it; the log by its retention.

    The request is a record in the user's partition, so that rebuilding or learning again forgets again. What was
    learned stays in the weights. Doing so twice does no harm.
    """
    if not (yes or as_json):
        typer.confirm(f"Forget {user_id!r} for good?", abort=True)
    try:
        requested, gone = asyncio.run(_delete(user_id, _settings()))
    except BadEvent as error:
        raise RefusedStart(f"{user_id!r} is no user id: {error.detail}") from error
    if as_json:
        told = {"user_id": user_id, "event_id": requested.event_id, "partition": requested.partition}
        typer.echo(orjson.dumps(told | {"until": requested.until, "log_gone_by": gone, "stays": ["weights"]}).decode())
        return
    console.print(f"{escape(user_id)} is being forgotten.")
    console.print(_table(requested, gone))


async def _delete(user_id: str, settings: "Settings") -> "tuple[Requested, dict[str, str | None]]":
    from libs.adapters.event_log import KafkaProducer
    from libs.adapters.user_history import RedisUserHistory
    from services.cli.user_export import gone_by
    from services.ingest.erasure import Erasures

    producer, history = KafkaProducer(settings.kafka), RedisUserHistory(settings.redis_url)
    try:
        await producer.start()
        requested = await Erasures(producer, history).request(user_id)
        return requested, await gone_by(settings)
    finally:
        await producer.stop()
        await history.close()


def _table(requested: "Requested", gone: dict[str, str | None]) -> Table:
    table = Table("what", "when it is gone", box=None)
    at = f"partition {requested.partition}, offset {requested.until - 1}"
    table.add_row("history in Redis", "now")
    table.add_row("join state and rows", f"when the learner has read {at} (moard lag), with its next checkpoint")
    table.add_row("older checkpoints", "when newer ones have taken their place (MOARD_LEARNER_CHECKPOINTS_KEPT)")
    for topic, moment in gone.items():
        table.add_row(f"records in {topic}", f"by {moment}" if moment else "never: the topic keeps everything")
    table.add_row("moard's tables in SQL", "hold nothing of users")
    table.add_row("the backend's tables", "are the backend's to clear")
    table.add_row("weights and counts", "stay: what was learned is in them, no record of the user")
    return table


def _settings() -> Any:
    from libs.adapters.settings import load_settings
    from services.learner.settings import Settings

    return load_settings(Settings)
