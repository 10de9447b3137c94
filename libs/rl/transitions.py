"""Row changes: what the join tells the replay buffer, one small message at a time (rl.md §3).

A row is one impression. It is opened at once, trains its choice head from the first consumption on, is closed when
the user comes back or the window passes, and is amended in place while it is in the buffer. A row is named by its
impression id; where it lies in the ring is the buffer's own business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

TERMS = ("click", "view", "ratio", "like", "hide", "reward")
"""Raw reward terms, the order of the last axis of every term array (rl.md §5)."""


@dataclass(frozen=True, slots=True)
class State:
    """What was known about the user when the slate was chosen, exactly as logged.

    ``history`` holds content ids, newest first, ``history_age_s`` their ages in seconds.
    """

    history: tuple[int, ...] = ()
    history_age_s: tuple[float, ...] = ()
    context: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """A new impression."""

    row_id: str
    state: State
    slate: tuple[int, ...]
    candidates: tuple[int, ...] = ()
    log_propensities: tuple[float, ...] = ()
    user_id: str = ""
    """Whose row it is, so that it can be erased; empty: nobody's."""


@dataclass(frozen=True, slots=True)
class Consumed:
    """One interaction amends a row: new values of its raw terms for one position of the slate.

    ``terms`` amends the named terms of that content: the larger in magnitude stays, so that order does not matter, and
    ``choice`` says whether it counts as consumption. ``append_ms`` is the broker's time, for freshness only.
    """

    row_id: str
    content_id: int
    terms: Mapping[str, float]
    choice: bool
    event_id: str
    append_ms: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was amended into one content of a row so far is taken back; what remains of it follows as ``Consumed``.

    Happens when an interaction without impression id turns out to belong to a later impression that arrived after it.
    """

    row_id: str
    content_id: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The story went on (``next_row_id`` after ``gap_s`` of event time) or ended there (None).

    Said again, with another answer, when an impression that belongs in between arrives out of order: the last counts.
    """

    row_id: str
    next_row_id: str | None = None
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reopened:
    """A row was closed too soon: what showed that its slate was seen belongs to another impression."""

    row_id: str


@dataclass(frozen=True, slots=True)
class Organic:
    """A consumption that belongs to no impression: no slate, no propensity."""

    row_id: str
    state: State
    content_id: int
    terms: Mapping[str, float]
    append_ms: int
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Retracted:
    """An organic row whose impression arrived later after all: it leaves the buffer."""

    row_id: str


@dataclass(frozen=True, slots=True)
class Erased:
    """All rows of one user leave the buffer; what was learned from them stays in the weights."""

    user_id: str


RowChange: TypeAlias = Opened | Consumed | Withdrawn | Closed | Reopened | Organic | Retracted | Erased
