"""What every benchmark shares: figures with one schema, progress, and fair comparison.

A benchmark is a module here with ``run(bench)``, plain or async. It measures and calls ``bench.record``; the table on
the screen and the lines in ``.moard/bench/<name>.jsonl`` are made of these records alone.
"""

import ast
import asyncio
import importlib
import inspect
import pkgutil
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

RESULTS = Path(".moard/bench")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: ``n`` is the number of samples behind it."""

    name: str
    variant: str
    metric: str
    value: float
    unit: str
    n: int
    seed: int


@dataclass(slots=True)
class Bench:
    """What a running benchmark is given.

    ``short`` asks for a quick round that shows that everything works, not for figures to quote.
    """

    name: str
    short: bool = False
    seed: int = 0
    results: Path = RESULTS
    console: Console = field(default_factory=lambda: Console(stderr=True))
    figures: list[Figure] = field(default_factory=list)

    def record(self, variant: str, metric: str, value: float, unit: str, n: int = 1, seed: int | None = None) -> None:
        """Keep one figure: on disk at once, in the table at the end. ``seed`` defaults to the run's."""
        figure = Figure(self.name, variant, metric, float(value), unit, n, self.seed if seed is None else seed)
        self.figures.append(figure)
        self.results.mkdir(parents=True, exist_ok=True)
        with (self.results / f"{self.name}.jsonl").open("ab") as lines:
            lines.write(orjson.dumps(asdict(figure)) + b"\n")

    def note(self, text: str) -> None:
        """Print one line beside the progress, such as a setting that differs from its default."""
        self.console.print(text, style="dim", highlight=False)

    def progress(self, iterable: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Iterate with a progress bar on stderr."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=self.console, transient=True) as bar:
            yield from bar.track(iterable, total=total, description=label)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Samples of several variants, one of each a round."""

    samples: Mapping[str, tuple[float, ...]]

    def median(self, variant: str) -> float:
        """Return the median sample of a variant."""
        return statistics.median(self.samples[variant])

    def ratio(self, variant: str, to: str) -> float:
        """Return the median over rounds of ``variant / to``; what slows a whole round cancels out."""
        return statistics.median(a / b for a, b in zip(self.samples[variant], self.samples[to], strict=True))


def interleave(variants: Mapping[str, Callable[[], float]], rounds: int) -> Comparison:
    """Measure every variant once a round, so that the machine's moods hit all of them alike.

    Each callable returns its own measurement. The order rotates: nobody always runs on the caches of the same other.

    >>> compared = interleave({"slow": lambda: 6.0, "fast": lambda: 2.0}, rounds=3)
    >>> compared.median("slow"), compared.ratio("slow", to="fast")
    (6.0, 3.0)
    """
    names = list(variants)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(variants[name]())
    return Comparison({name: tuple(values) for name, values in samples.items()})


def discover(package: str = "benchmarks") -> dict[str, str]:
    """Map benchmark names (``update-step``) to modules (``benchmarks.update_step``), without importing any of them."""
    files = {
        module.name: Path(folder) / f"{module.name}.py"
        for folder in importlib.import_module(package).__path__
        for module in pkgutil.iter_modules([folder])
        if not module.ispkg
    }
    return {name.replace("_", "-"): f"{package}.{name}" for name, file in files.items() if _has_run(file)}


def _has_run(file: Path) -> bool:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == "run" for node in ast.parse(file.read_bytes()).body)


def execute(module: str, bench: Bench) -> None:
    """Run one benchmark to its end."""
    outcome = importlib.import_module(module).run(bench)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


def table(bench: Bench) -> Table:
    """Return the figures of a finished benchmark as one table."""
    shown = Table(title=f"{bench.name}{' (short round: not for quoting)' if bench.short else ''}", title_justify="left")
    for heading in ("variant", "metric"):
        shown.add_column(heading)
    shown.add_column("value", justify="right")
    shown.add_column("unit")
    for heading in ("n", "seed"):
        shown.add_column(heading, justify="right")
    for figure in bench.figures:
        value = f"{figure.value:,.4g}" if abs(figure.value) < 1_000 else f"{figure.value:,.0f}"
        shown.add_row(figure.variant, figure.metric, value, figure.unit, f"{figure.n:,}", str(figure.seed))
    return shown
