"""A row of the fault matrix, and where to find all of them."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import rows
from tests.faults.checker import EVERY, Check
from tests.faults.trial import Trial


@dataclass(frozen=True, slots=True)
class Row:
    """One fault, what is done to inject it, and what must hold.

    Parameters
    ----------
    id
        ``F1`` to ``F20``, as in the matrix.
    fault, must_hold
        A line each, for the report.
    run
        Brings up what it needs, injects the fault and drains. What it raises fails the trial.
    checks
        Decide from the history.
    """

    id: str
    fault: str
    must_hold: str
    run: Callable[[Trial], None]
    checks: tuple[Check, ...] = EVERY


def all_rows() -> dict[str, Row]:
    """Return the rows by id, in the matrix's order: each module of ``tests.faults.rows`` has one, named ``ROW``."""
    modules = (
        importlib.import_module(f"{rows.__name__}.{found.name}") for found in pkgutil.iter_modules(rows.__path__)
    )
    found: list[Row] = [module.ROW for module in modules]
    return {row.id: row for row in sorted(found, key=lambda row: int(row.id[1:]))}
