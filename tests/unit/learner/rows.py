"""What a buffer would hold after row changes, as plain values: the join's tests compare these."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.rl.transitions import Closed, Consumed, Opened, Organic, Reopened, Retracted, RowChange, Withdrawn


@dataclass
class Row:
    slate: tuple[int, ...] = ()
    terms: dict[int, dict[str, float]] = field(default_factory=dict)
    chosen: set[int] = field(default_factory=set)
    closed: tuple[str | None, float] | None = None


def rows_of(changes: Iterable[RowChange], rows: dict[str, Row] | None = None) -> dict[str, Row]:
    """Apply changes the way the replay buffer does, and return the rows by id."""
    rows = {} if rows is None else rows
    for change in changes:
        match change:
            case Opened():
                assert change.row_id not in rows, "opened twice"
                rows[change.row_id] = Row(change.slate)
            case Organic():
                rows[change.row_id] = Row((change.content_id,), {change.content_id: dict(change.terms)})
            case Retracted():
                del rows[change.row_id]
            case Withdrawn():
                rows[change.row_id].terms.pop(change.content_id)
                rows[change.row_id].chosen.discard(change.content_id)
            case Consumed():
                amend(rows[change.row_id], change.content_id, dict(change.terms), change.choice)
            case Closed():
                rows[change.row_id].closed = (change.next_row_id, change.gap_s)
            case Reopened():
                rows[change.row_id].closed = None
    return rows


def amend(row: Row, content_id: int, terms: dict[str, float], choice: bool) -> None:
    assert content_id in row.slate
    held = row.terms.setdefault(content_id, {})
    for name, value in terms.items():
        held[name] = max(held.get(name, 0.0), value, key=lambda x: (abs(x), x))
    if choice:
        row.chosen.add(content_id)
