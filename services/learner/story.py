"""What the join remembers about one user: impressions that may still change, loose interactions, recent visits."""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, TypeAlias

from libs.events.schema import MAX_HISTORY, Impression
from libs.rl.transitions import State

_MS_PER_S: Final = 1000.0

Waits: TypeAlias = Literal["held", "organic", ""]
"""``held``: for the impression it names; ``organic``: its row leaves again if its impression comes; else settled."""


@dataclass(slots=True)
class Taken:
    """One interaction, with what it means for learning already worked out."""

    event_id: str
    user_id: str
    kind: str
    content_id: int | None
    impression_id: str | None
    at_ms: int
    append_ms: int
    terms: Mapping[str, float]
    choice: bool
    deadline_ms: int = 0
    waits: Waits = ""

    @property
    def organic_row_id(self) -> str:
        """Name of the row that this interaction makes when no impression takes it."""
        return f"organic:{self.event_id}"

    def waits_until(self, deadline_ms: int) -> bool:
        """Tell whether a timer set for this moment still means this interaction."""
        return self.waits != "" and self.deadline_ms == deadline_ms

    def dump(self) -> list[Any]:
        """Return all fields, JSON-able."""
        return [getattr(self, name) for name in _TAKEN]

    @classmethod
    def load(cls, values: list[Any]) -> Self:
        """Take over what ``dump`` returned."""
        return cls(*values)


@dataclass(slots=True)
class Shown:
    """One impression that may still be joined."""

    row_id: str
    user_id: str
    at_ms: int
    append_ms: int
    slate: tuple[int, ...]
    sequence: int
    next_key: tuple[int, str] | None = None
    gap_s: float | None = None
    looked_at: bool = False
    gone: bool = False
    taken: list[Taken] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, str]:
        """Place in the user's story: event time, then id."""
        return self.at_ms, self.row_id

    def release(self) -> None:
        """Keep nothing but the place in the queue, until its time."""
        self.gone, self.taken, self.next_key = True, [], None
        self.row_id, self.user_id, self.slate = "", "", ()

    def could_take(self, taken: Taken, window_ms: int) -> bool:
        """Tell whether an interaction without impression id may belong to this impression."""
        return taken.content_id in self.slate and self.at_ms <= taken.at_ms <= self.at_ms + window_ms

    def dump(self) -> list[Any]:
        """Return all fields, JSON-able."""
        return [*(getattr(self, name) for name in _SHOWN), [taken.dump() for taken in self.taken]]

    @classmethod
    def load(cls, values: list[Any]) -> Self:
        """Take over what ``dump`` returned."""
        *plain, taken = values
        shown = cls(*plain)
        shown.taken = [Taken.load(item) for item in taken]
        shown.slate = tuple(shown.slate)
        shown.next_key = None if shown.next_key is None else (shown.next_key[0], shown.next_key[1])
        return shown


_TAKEN: Final = tuple(item.name for item in fields(Taken))
_SHOWN: Final = tuple(item.name for item in fields(Shown) if item.name != "taken")


@dataclass(slots=True)
class Story:
    """One user."""

    shown: list[Shown] = field(default_factory=list)
    held: dict[str, list[Taken]] = field(default_factory=dict)
    organic: list[Taken] = field(default_factory=list)
    held_count: int = 0
    # Latest event time of an interaction joined without an id: only an impression before it can take it over.
    latest_loose_ms: int = -1
    # Visits as two flat arrays: tens of thousands of users with 30 visits each are resident.
    visits_ms: "array[int]" = field(default_factory=lambda: array("q"))
    visits: "array[int]" = field(default_factory=lambda: array("q"))

    @property
    def idle(self) -> bool:
        """Nothing waits: only the visits would be lost with it."""
        return not (self.shown or self.held or self.organic)

    def place(self, shown: Shown) -> int:
        """Insert by event time and return the index."""
        if not self.shown or self.shown[-1].key < shown.key:
            self.shown.append(shown)
            return len(self.shown) - 1
        insort(self.shown, shown, key=_key)
        return bisect_left(self.shown, shown.key, key=_key)

    def match(self, taken: Taken, window_ms: int) -> Shown | None:
        """Return the latest impression that an interaction without impression id may belong to."""
        for shown in reversed(self.shown):
            if shown.could_take(taken, window_ms):
                return shown
            if shown.at_ms < taken.at_ms - window_ms:
                return None
        return None

    def visit(self, content_id: int, at_ms: int) -> None:
        """Add one consumed content; only the newest ``MAX_HISTORY`` stay."""
        index = bisect_right(self.visits_ms, at_ms)
        self.visits_ms.insert(index, at_ms)
        self.visits.insert(index, content_id)
        if len(self.visits) > MAX_HISTORY:
            del self.visits_ms[0], self.visits[0]

    def state_at(self, at_ms: int) -> State:
        """Return the user's state just before a moment of event time, newest visit first."""
        end = bisect_left(self.visits_ms, at_ms)
        return State(
            history=tuple(self.visits[:end][::-1]),
            history_age_s=tuple((at_ms - visit_ms) / _MS_PER_S for visit_ms in self.visits_ms[:end][::-1]),
        )

    def missing_from(self, impression: Impression, at_ms: int) -> bool:
        """Tell whether the logged history lacks a content consumed before the impression and appended before it.

        A full history may lack what is older than its oldest entry; a backend that ranks by itself logs none.
        """
        if impression.arm == "external" or not self.visits:
            return False
        logged = impression.history
        oldest_ms = -1.0
        if len(logged) >= MAX_HISTORY:
            if not impression.history_age_s:
                return False
            oldest_ms = at_ms - _MS_PER_S * max(impression.history_age_s)
        end = bisect_left(self.visits_ms, at_ms)
        start = bisect_right(self.visits_ms, oldest_ms, hi=end)
        return not set(self.visits[start:end]).issubset(logged)


def _key(shown: Shown) -> tuple[int, str]:
    return shown.key
