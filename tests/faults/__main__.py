"""``python -m tests.faults``: inject the faults of the matrix, judge the histories, print and keep the report."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infra.kafka_server import CACHE_VARIABLE, cache_folder
from tests.faults.checker import Verdict
from tests.faults.report import page, read_json, summarise, table, write_json
from tests.faults.row import Row, all_rows
from tests.faults.runner import check, folder_of, run_trial, stored

HISTORIES = Path(".moard/faults")
REPORT = Path(".moard/faults-report.json")
PAGE = Path("docs/faults.md")
WIDTH = 140  # of the table where no terminal says otherwise


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for; return 0, or 1 when something promised did not hold."""
    known = all_rows()
    options = _parse(arguments, known)
    rows = [known[row_id] for row_id in options.rows]
    if options.action == "page":
        PAGE.write_text(page(read_json(REPORT), known))
        return 0
    reports = summarise(_verdicts(options, rows))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table(reports, known))
    for report in reports:
        for problem in report.problems:
            console.print(f"{report.id} {problem}", style="red", highlight=False)
    write_json(REPORT, reports)
    return 1 if any(report.failed for report in reports) or not reports else 0


def _verdicts(options: argparse.Namespace, rows: Sequence[Row]) -> list[Verdict]:
    if options.action == "check":
        return [check(row, seed, folder_of(HISTORIES, row, seed)) for row, seed in stored(HISTORIES, rows)]
    if options.only is not None:
        return list(_trials(rows, [options.only], options.short))
    for row, seed in stored(HISTORIES, rows):  # or ``check`` would judge what an earlier run left beside this one's
        shutil.rmtree(folder_of(HISTORIES, row, seed))
    return list(_trials(rows, range(options.seeds), options.short))


def _parse(arguments: Sequence[str] | None, known: Mapping[str, Row]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "action",
        nargs="?",
        choices=("run", "check", "page"),
        default="run",
        help="run: inject faults; check: judge the kept histories again; page: write docs/faults.md from the report",
    )
    parser.add_argument(
        "--rows", type=lambda text: _named(text, known), default=list(known), help="F1,F2; all if absent"
    )
    parser.add_argument("--seeds", type=int, default=3, help="trials of each row (default %(default)s)")
    parser.add_argument("--only", type=int, metavar="SEED", help="this seed alone, to look at a trial again")
    parser.add_argument("--short", action="store_true", help="the quick form that every run of the tests makes")
    return parser.parse_args(arguments)


def _named(text: str, known: Mapping[str, Row]) -> list[str]:
    ids = [name.strip().upper() for name in text.split(",") if name.strip()]
    if unknown := [name for name in ids if name not in known]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    return ids


def _trials(rows: Sequence[Row], seeds: Sequence[int], short: bool) -> Iterator[Verdict]:
    os.environ.setdefault(CACHE_VARIABLE, str(cache_folder()))
    for name in [name for name in os.environ if name.startswith("MOARD_") and name != CACHE_VARIABLE]:
        del os.environ[name]  # trials see no setting of the person who runs them
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(seeds) * len(rows))
        for row in rows:
            for seed in seeds:
                bar.update(task, description=f"{row.id} seed {seed}: {row.fault}")
                began = time.monotonic()
                verdict = run_trial(row, seed, folder_of(HISTORIES, row, seed), short=short)
                bar.advance(task)
                outcome = "; ".join(verdict.problems) or "holds"
                bar.console.print(
                    f"{row.id} seed {seed}: {outcome} ({time.monotonic() - began:.0f} s)", highlight=False
                )
                yield verdict


if __name__ == "__main__":
    sys.exit(main())
