"""The ``moard`` command."""

import logging
import sys

import structlog
import typer

from libs.errors import MoardError, RefusedStart
from services.cli import doc2vec, stack
from services.cli.checkpoint import checkpoint
from services.cli.config import config
from services.cli.dlq import dlq
from services.cli.doctor import doctor
from services.cli.evaluate import evaluate
from services.cli.events import events
from services.cli.keys import keys
from services.cli.lag import lag
from services.cli.model import model
from services.cli.rebuild import rebuild
from services.cli.status import status
from services.cli.user import user

REFUSED = 2
"""Exit code when moard must not start like this; the message names the setting and the remedy."""
FAILED = 1
"""Exit code when a server that was needed did not answer."""
_ITS_OWN = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of a command that reads its arguments itself."""

app = typer.Typer(help="moard: self-hosted ranking that learns from a live event stream.", no_args_is_help=True)


@app.command(context_settings=_ITS_OWN, add_help_option=False)
def demo(context: typer.Context) -> None:
    """Watch the whole system learn on MovieLens-100K."""
    from examples.movielens.__main__ import main as run

    sys.exit(run(context.args))


@app.command(context_settings=_ITS_OWN, add_help_option=False)
def quickstart(context: typer.Context) -> None:
    """Run the loop in one process, on in-memory twins."""
    from examples.quickstart.__main__ import main as run

    sys.exit(run(context.args))


for command in (stack.up, stack.down, stack.topics, stack.migrate, status, lag, doctor, config, evaluate, rebuild):
    app.command()(command)
app.add_typer(checkpoint)
app.add_typer(dlq, name="dlq")
app.add_typer(events)
app.add_typer(keys, name="keys")
app.add_typer(model, name="model")
app.add_typer(user, name="user")
app.add_typer(doc2vec.app, name="doc2vec")


def main() -> None:
    """Run the command; what moard foresees is a message and an exit code, not a traceback."""
    # Standard output is for what was asked; of what the parts have to say, warnings are enough.
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet, logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        app()
    except MoardError as error:
        typer.echo(str(error), err=True)
        sys.exit(REFUSED if isinstance(error, RefusedStart) else FAILED)


if __name__ == "__main__":
    main()
