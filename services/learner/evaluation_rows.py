"""Impressions under evaluation, as arrays: what was promised, what other policies would have done, what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from libs.events.schema import Impression
from libs.rl.logged_slates import LoggedSlates
from libs.rl.off_policy import RewardModel, Tally, tally
from libs.rl.prequential import ChoiceTally, choice_probabilities, choice_tally
from libs.rl.rewards import RewardSpec
from libs.rl.slates import Consumption
from libs.rl.transitions import TERMS, Closed, Consumed, Erased, RowChange, Withdrawn
from libs.rl.value_calibration import ENDED, NEGLIGIBLE, UNKNOWN, Line, lookahead, returns

POSITIONS: Final = 12
"""Positions of a slate that are evaluated, as many as the replay buffer keeps."""

_TERM: Final = {name: index for index, name in enumerate(TERMS)}
_FREE, _OPEN, _CLOSED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Goal:
    """What is counted: rewards, discounts and the choice model, as the learner is told them."""

    reward: RewardSpec = field(default_factory=RewardSpec)
    gamma: float = 0.9
    tau_s: float = 60.0
    consumption: Consumption = "multi"


@dataclass(frozen=True, slots=True)
class Totals:
    """What rows say when they are added up; windows and totals are sums of these."""

    policies: Mapping[str, Tally]
    choice: ChoiceTally
    u: Line
    q: Line

    def __add__(self, other: "Totals") -> "Totals":
        policies = {name: counted + other.policies[name] for name, counted in self.policies.items()}
        return Totals(policies, self.choice + other.choice, self.u + other.u, self.q + other.q)


class EvaluationRows:
    """Rows by slot; a slot is free again after ``forget``. Rows it does not know are no concern of its.

    Parameters
    ----------
    policies
        Names of the target policies each row is weighed for.
    groups
        Number of groups that users fall into by their number, the bootstrap's unit; may be set later.
    """

    def __init__(self, goal: Goal, policies: Sequence[str], groups: int = 1, capacity: int = 1_024) -> None:
        self._goal = goal
        self._policies = tuple(policies)
        self.groups = groups
        self._slots: dict[str, int] = {}
        self._ids: list[str] = []
        self._slates: list[tuple[int, ...]] = []
        self._spare: list[int] = []
        self._serials = 0
        self.state = np.zeros(capacity, np.int8)
        self.usable = np.zeros(capacity, np.bool_)
        self.append_ms = np.zeros(capacity, np.int64)
        self.user = np.zeros(capacity, np.int64)
        self.serial = np.full(capacity, -1, np.int64)
        self._next = np.full(capacity, UNKNOWN, np.int64)
        self._discount = np.zeros(capacity)
        self._size = np.zeros(capacity, np.int64)
        self._terms = np.zeros((capacity, POSITIONS, len(TERMS)), np.float32)
        self._consumed = np.zeros((capacity, POSITIONS), np.bool_)
        self._log_weights = np.zeros((capacity, len(policies), POSITIONS), np.float32)
        self._predicted = np.zeros(capacity, np.bool_)
        self._choice = np.zeros((capacity, POSITIONS), np.float32)
        self._advantage = np.zeros((capacity, POSITIONS), np.float32)
        self._values = np.zeros((capacity, 2), np.float32)  # U and N

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._slots

    def id_of(self, slot: int) -> str:
        """Return the impression in a slot."""
        return self._ids[slot]

    def open(self, events: Sequence[Impression], append_ms: Sequence[int], users: Sequence[int]) -> list[int]:
        """Begin to follow impressions and return their slots; weigh them afterwards if that can be done."""
        slots = [self._spare.pop() if self._spare else self._new_slot() for _ in events]
        at = np.array(slots, np.int64)
        self.state[at], self.usable[at], self._predicted[at] = _OPEN, False, False
        self.append_ms[at], self.user[at] = append_ms, users
        self.serial[at] = range(self._serials, self._serials + len(slots))
        self._serials += len(slots)
        self._next[at], self._discount[at], self._terms[at], self._consumed[at] = UNKNOWN, 0.0, 0.0, False
        self._size[at] = [min(len(event.slate), POSITIONS) for event in events]
        for slot, event in zip(slots, events, strict=True):
            shown = event.slate[:POSITIONS]
            self._slots[event.event_id] = slot
            self._ids[slot], self._slates[slot] = event.event_id, shown
            if event.choice and event.advantage and event.value is not None and event.continuation is not None:
                self._predicted[slot] = True
                self._choice[slot, : len(shown)] = event.choice[:POSITIONS]
                self._advantage[slot, : len(shown)] = event.advantage[:POSITIONS]
                self._values[slot] = event.value, event.continuation
        return slots

    def weigh(self, slots: Sequence[int], logged: LoggedSlates, targets: Mapping[str, np.ndarray]) -> None:
        """Note how much more likely each policy would have shown these slates than the one that did."""
        for at, name in enumerate(self._policies):
            self._log_weights[slots, at] = targets[name] - logged.log_propensities
        self.usable[slots] = np.isfinite(self._log_weights[slots]).all(axis=(1, 2))

    def change(self, change: RowChange) -> int | None:
        """Take in what the join says of a row; return its slot when that closed it for the first time."""
        slot = None if isinstance(change, Erased) else self._slots.get(change.row_id)
        if slot is None:
            return None
        if isinstance(change, Consumed):
            self._amend(slot, change)
        elif isinstance(change, Withdrawn):
            if change.content_id in self._slates[slot]:
                at = self._slates[slot].index(change.content_id)
                self._terms[slot, at], self._consumed[slot, at] = 0.0, False
        elif isinstance(change, Closed):
            return self._close(slot, change)
        return None

    def open_slots(self) -> np.ndarray:
        """Return the slots of rows that are not closed."""
        return np.flatnonzero(self.state == _OPEN)

    def slots_of(self, user: int) -> np.ndarray:
        """Return the slots of a user's rows."""
        return np.flatnonzero((self.user == user) & (self.state != _FREE))

    def closed_slots(self) -> np.ndarray:
        """Return the slots of closed rows."""
        return np.flatnonzero(self.state == _CLOSED)

    def forget(self, slots: Sequence[int] | np.ndarray) -> None:
        """Let go of rows."""
        for slot in np.asarray(slots).tolist():
            del self._slots[self._ids[slot]]
            self.state[slot], self.serial[slot] = _FREE, -1
            self._spare.append(slot)

    def totals(self, slots: np.ndarray, model: RewardModel | None = None) -> Totals:
        """Add up rows. ``model`` holds expectations for exactly those of them that can be weighed."""
        rewards = self._rewards(slots)
        shown = np.arange(POSITIONS) < self._size[slots, None]
        usable = self.usable[slots]
        policies = {
            name: tally(
                rewards[usable],
                shown[usable],
                self._log_weights[slots[usable], at].astype(np.float64),
                self.user[slots[usable]] % self.groups,
                self.groups,
                model,
            )
            for at, name in enumerate(self._policies)
        }
        told = slots[self._predicted[slots]]
        here = np.arange(POSITIONS) < self._size[told, None]
        probabilities = choice_probabilities(self._choice[told].astype(np.float64), here, self._goal.consumption)
        judged = choice_tally(probabilities, here, self._consumed[told])
        return Totals(policies, judged, *(Line.through(*points) for points in self.promises(slots)))

    def reward_of_consumption(self, slots: np.ndarray) -> float:
        """Return what a consumed content of these rows earned on average, 0 without any."""
        consumed = int(self._consumed[slots].sum())
        return float(self._rewards(slots).sum() / consumed) if consumed else 0.0

    def promises(self, slots: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return predicted and realised values: U of requests, and Q̄ = N + A of what was consumed.

        Only of rows whose story is known far enough that less than 1 % of the return can be missing.
        """
        taken = np.flatnonzero(self.state != _FREE)
        by_slot = self._rewards(taken)
        following = self._following(taken)
        discount = self._discount[taken]
        total, missing = returns(by_slot.sum(axis=1), discount, following, lookahead(self._goal.gamma))
        wanted = np.zeros(len(self.state), np.bool_)
        wanted[slots] = True
        judged = wanted[taken] & self._predicted[taken] & (missing < NEGLIGIBLE)
        rows, at = np.nonzero(self._consumed[taken] & judged[:, None])
        onward = np.where(following[rows] >= 0, discount[rows] * total[following[rows]], 0.0)
        q = self._values[taken[rows], 1] + self._advantage[taken[rows], at]
        u = self._values[taken[judged], 0]
        return (u.astype(np.float64), total[judged]), (q.astype(np.float64), by_slot[rows, at] + onward)

    def _amend(self, slot: int, change: Consumed) -> None:
        if change.content_id not in self._slates[slot]:
            return  # further down than what is evaluated
        at = self._slates[slot].index(change.content_id)
        for name, value in change.terms.items():
            held = self._terms.item(slot, at, _TERM[name])
            if (abs(value), value) > (abs(held), held):  # the larger in magnitude stays, as in the replay buffer
                self._terms[slot, at, _TERM[name]] = value
        if change.choice:
            self._consumed[slot, at] = True

    def _close(self, slot: int, change: Closed) -> int | None:
        goal = self._goal
        if change.next_row_id is None:
            self._next[slot] = ENDED
        else:
            following = self._slots.get(change.next_row_id)
            self._next[slot] = UNKNOWN if following is None else self.serial[following]
            self._discount[slot] = goal.gamma ** min(max(change.gap_s / goal.tau_s, 1.0), 10.0)
        first = self.state[slot] == _OPEN
        self.state[slot] = _CLOSED
        return slot if first else None

    def _rewards(self, slots: np.ndarray) -> np.ndarray:
        rewards = self._goal.reward.reward(self._terms[slots]).astype(np.float64)
        shown = np.arange(POSITIONS) < self._size[slots, None]
        return np.where(shown, rewards, 0.0)

    def _following(self, taken: np.ndarray) -> np.ndarray:
        """Return the index into ``taken`` of each one's next row: slots are reused, serials are not."""
        order = np.argsort(self.serial[taken])
        sorted_serials, wanted = self.serial[taken][order], self._next[taken]
        at = np.minimum(np.searchsorted(sorted_serials, wanted), max(len(taken) - 1, 0))
        found = (wanted >= 0) & (sorted_serials[at] == wanted) if len(taken) else np.zeros(0, np.bool_)
        return np.where(found, order[at] if len(taken) else 0, np.where(wanted == ENDED, ENDED, UNKNOWN))

    def _new_slot(self) -> int:
        slot = len(self._ids)
        self._ids.append("")
        self._slates.append(())
        if slot == len(self.state):
            self._grow()
        return slot

    def _grow(self) -> None:
        for name, old in list(vars(self).items()):
            if isinstance(old, np.ndarray):
                new = np.zeros((2 * len(old), *old.shape[1:]), old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
