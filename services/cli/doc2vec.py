"""``moard doc2vec``: train a text model, or take over one that gensim saved."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from libs.adapters.settings import StackSettings, load_settings
from libs.errors import RefusedStart
from services.cli.training_texts import Documents, from_catalogue, from_file

if TYPE_CHECKING:
    from libs.text.doc2vec import Doc2VecModel

app = typer.Typer(help="Text vectors: train a Doc2Vec model, or import one that gensim saved.", no_args_is_help=True)

FOLDER: Final = Path(".moard/doc2vec")
_FEW: Final = 1_000  # texts; fewer hardly show which words belong together
_HALF: Final = 0.5

Into = Annotated[Path, typer.Option(help="Folder of models; this one gets a subfolder named by its version.")]


@app.command()
def train(
    file: Annotated[
        Path | None,
        typer.Option(help='JSON lines {"id", "title", "description"}; left out: the catalogue of DATABASE_URL.'),
    ] = None,
    into: Into = FOLDER,
    vector_size: Annotated[
        int | None, typer.Option(min=2, max=4_096, help="Numbers in a vector; left out: MOARD_VECTOR_SIZE.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=1_000, help="Passes over all texts, and over a new one.")] = 40,
    min_count: Annotated[int, typer.Option(min=1, help="Least occurrences of a word that counts.")] = 2,
    sample: Annotated[
        float, typer.Option(min=0, max=1, help="Skip words above this share: 1e-4 for articles, 0 for short texts.")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="With one worker, the same gives the same model.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads; from 2 on no two trainings are alike.")] = 1,
) -> None:
    """Train a model on the texts of the catalogue, or of a file.

    Prints the setting that lets the services use it, and nothing else, to standard output.
    """
    _require_gensim()
    from libs.text import doc2vec

    say = Console(stderr=True)
    settings = load_settings(StackSettings)
    with _progress(say) as bars, _untrainable_refused():
        documents = _read(file, settings, bars)
        if len(documents) < _FEW:
            say.print(f"{len(documents)} texts are few: vectors will say little. A good start is {_FEW:,}.")
        training = bars.add_task("training", total=epochs)
        model = doc2vec.train(
            documents,
            vector_size=vector_size or settings.vector_size,
            epochs=epochs,
            seed=seed,
            workers=workers,
            min_count=min_count,
            sample=sample,
            progress=lambda done, _: bars.update(training, completed=done),
        )
    _finish(model, into, settings, say)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `model.save(FILE)` of gensim 4 wrote; FILE.*.npy beside it.")],
    sha256: Annotated[
        list[str], typer.Option("--sha256", help="SHA-256 of FILE, and of each FILE.*.npy; from who made the model.")
    ],
    into: Into = FOLDER,
) -> None:
    """Take over a gensim model: its file is a pickle and may run anything, so its SHA-256 has to be known first.

    Prints the setting that lets the services use it, and nothing else, to standard output.
    """
    _require_gensim()
    from libs.text.gensim_file import import_model, understood

    say = Console(stderr=True)
    settings = load_settings(StackSettings)
    model = import_model(file, sha256)
    share = understood(model)
    say.print(f"moard's tokenisation makes {share:.0%} of its {len(model.words):,} words; others never occur.")
    if share < _HALF:
        say.print("[bold]That is little: it was trained on other tokens. `moard doc2vec train` will do better.[/bold]")
    _finish(model, into, settings, say)


def _read(file: Path | None, settings: StackSettings, bars: Progress) -> Documents:
    reading = bars.add_task("reading texts", total=None)

    def count(texts: int) -> None:
        bars.update(reading, completed=texts)

    documents = from_file(file, count) if file is not None else from_catalogue(settings, count)
    bars.update(reading, total=len(documents), completed=len(documents))
    return documents


@contextmanager
def _untrainable_refused() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise RefusedStart(f"No model was trained: {error}. Texts come from --file, or from DATABASE_URL.") from error


def _require_gensim() -> None:
    try:
        import libs.text.doc2vec  # noqa: F401
    except ImportError as error:
        raise RefusedStart("moard doc2vec needs gensim: install moard[text]") from error


def _finish(model: "Doc2VecModel", into: Path, settings: StackSettings, say: Console) -> None:
    folder = into.absolute() / model.version
    model.save(folder)
    say.print(f"Vector version {model.version}: {len(model.words):,} words, vectors of {model.vector_size}.")
    say.print("Next: give ingest and serving this setting (.env or environment), and restart ingest, then serving.")
    say.print("Ingest then computes every vector that an older model made; vectors that backends gave stay.")
    typer.echo(f"MOARD_DOC2VEC_PATH={folder}")
    if model.vector_size != settings.vector_size:
        say.print(f"MOARD_VECTOR_SIZE is {settings.vector_size} here: every service, the learner too, needs the other.")
        typer.echo(f"MOARD_VECTOR_SIZE={model.vector_size}")


def _progress(say: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=say)
