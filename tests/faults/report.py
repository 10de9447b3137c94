"""The outcome of a matrix of faults: as a table, as JSON, and as the page under ``docs/``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from tests.faults.checker import Verdict
from tests.faults.row import Row

COLUMNS = ("seeds", "failed", "faults", "acknowledged", "inserted", "lost", "doubled")


@dataclass(frozen=True, slots=True)
class RowReport:
    """What all trials of a row showed together; ``recovery_s`` is the worst."""

    id: str
    seeds: int
    failed: int
    faults: int
    acknowledged: int
    inserted: int
    lost: int
    doubled: int
    recovery_s: float
    problems: tuple[str, ...]


def summarise(verdicts: Sequence[Verdict]) -> list[RowReport]:
    """Return one report for each row, in order of appearance."""
    ids = dict.fromkeys(verdict.row for verdict in verdicts)
    return [_summary(row_id, [verdict for verdict in verdicts if verdict.row == row_id]) for row_id in ids]


def table(reports: Sequence[RowReport], rows: Mapping[str, Row]) -> Table:
    """Return the reports as a table for a terminal, in red what did not hold."""
    shown = Table(title="faults", title_justify="left")
    shown.add_column("row", no_wrap=True)
    shown.add_column("fault", max_width=40)
    for column in (*COLUMNS, "recovery s"):
        shown.add_column(column, justify="right", no_wrap=True)
    for report in reports:
        style = "red" if report.failed else None
        figures = [f"{getattr(report, column):,}" for column in COLUMNS]
        shown.add_row(report.id, rows[report.id].fault, *figures, f"{report.recovery_s:.1f}", style=style)
    return shown


def write_json(path: Path, reports: Sequence[RowReport]) -> None:
    """Write the reports for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": [asdict(report) for report in reports]}, indent=1) + "\n")


def read_json(path: Path) -> list[RowReport]:
    """Read what ``write_json`` wrote."""
    document = json.loads(path.read_text())
    return [RowReport(**{**row, "problems": tuple(row["problems"])}) for row in document["rows"]]


PAGE_HEAD = """# Faults

What moard is put through, and what the histories showed. `make faults` runs it (`SEEDS=10` for the full matrix,
`ROWS=F1,F2` for some of it), `python -m tests.faults check` judges the kept histories once more, and
`python -m tests.faults page` writes this page from the last report. The rows are in
[tests/faults/rows](../tests/faults/rows), the checker is [tests/faults/checker.py](../tests/faults/checker.py).

Users are shown rankings and click, through HTTP, and send again what was not acknowledged. Their answers, every
snapshot that the pointer in Redis names, and the injected faults go into a history; an independent checker reads the
histories, the ledger of the learner's last checkpoint, and the topic. *Acknowledged* are the events that clients were
told are kept, *inserted* the distinct events in the ledger, impressions of serving included; *recovery* is the
longest time from the end of a fault until things worked again.

"""


def page(reports: Sequence[RowReport], rows: Mapping[str, Row]) -> str:
    """Return the reports as a Markdown page."""
    headings = ("row", "fault", "must hold", *COLUMNS, "recovery")
    lines = [" | ".join(headings), " | ".join(["---"] * 3 + ["---:"] * (len(COLUMNS) + 1))]
    for report in reports:
        row = rows[report.id]
        figures = (f"{getattr(report, column):,}" for column in COLUMNS)
        recovery = f"{report.recovery_s:.1f} s" if report.recovery_s else "–"
        lines.append(" | ".join((report.id, row.fault, row.must_hold, *figures, recovery)))
    failures = [f"- {report.id}: {problem}" for report in reports for problem in report.problems]
    told = ["", "What failed:", "", *failures] if failures else []
    return PAGE_HEAD + "\n".join([*(f"| {line} |" for line in lines), *told]) + "\n"


def _summary(row_id: str, verdicts: Sequence[Verdict]) -> RowReport:
    return RowReport(
        id=row_id,
        seeds=len(verdicts),
        failed=sum(bool(verdict.problems) for verdict in verdicts),
        faults=sum(verdict.faults for verdict in verdicts),
        acknowledged=sum(verdict.acknowledged for verdict in verdicts),
        inserted=sum(verdict.inserted for verdict in verdicts),
        lost=sum(verdict.lost for verdict in verdicts),
        doubled=sum(verdict.doubled for verdict in verdicts),
        recovery_s=max((verdict.recovery_s for verdict in verdicts), default=0.0),
        problems=tuple(f"seed {verdict.seed}: {problem}" for verdict in verdicts for problem in verdict.problems),
    )
