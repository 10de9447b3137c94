"""From entries to a report: the learner's own join, then the same rows and sums as while learning."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from libs.errors import RefusedStart
from libs.events.schema import Impression
from libs.rl.evaluation import Estimate, Weights
from libs.rl.logged_slates import exclusion, largest_difference, logged_slates
from libs.rl.off_policy import RewardModel, estimates
from libs.rl.transitions import Opened
from libs.rl.value_calibration import tenths
from services.cli.evaluation_input import Entry, Range
from services.cli.evaluation_report import Report
from services.cli.evaluation_target import Loaded, Target
from services.learner.attribution import Arrival, Attribution
from services.learner.evaluation_rows import POSITIONS, EvaluationRows, Goal
from services.learner.windows import JoinLimits, JoinRules

_EVERYTHING = 2**40  # the range is in memory anyway: nothing is dropped at a cap


class Offline:
    """Joins a range of the log and weighs its impressions.

    Parameters
    ----------
    loaded
        A snapshot that is asked about and must not have been trained on what it is judged by; None without one.
    """

    def __init__(
        self, goal: Goal, rules: JoinRules, target: Target, wanted: Range, loaded: Loaded | None, allow_trained: bool
    ) -> None:
        limits = JoinLimits(
            **dict.fromkeys(("open_impressions", "users", "closed_impressions", "buffer_rows"), _EVERYTHING)
        )
        self._attribution = Attribution(replace(rules, limits=limits))
        self._rows = EvaluationRows(goal, ("target",))
        self._target = target
        self._wanted = wanted
        self._loaded = loaded
        self._allow_trained = allow_trained
        self._users: dict[str, int] = {}
        self._excluded: Counter[str] = Counter()
        self._usable: list[int] = []
        self._difference = 0.0
        self.trained = 0

    def take(self, entries: Sequence[Entry]) -> None:
        """Take in the next entries; raises ``RefusedStart`` at the first that the snapshot was trained on."""
        changes = self._attribution.observe([Arrival(each.partition, each.append_ms, each.event) for each in entries])
        opened = {change.row_id for change in changes if isinstance(change, Opened)}
        followed = []
        for entry in entries:
            event = entry.event
            if isinstance(event, Impression) and event.event_id in opened and self._within(entry):
                opened.discard(event.event_id)
                self._refuse_trained(entry)
                followed.append((event, entry.append_ms))
        if followed:
            self._follow([event for event, _ in followed], [append_ms for _, append_ms in followed])
        for change in changes:
            self._rows.change(change)

    def report(self, policy: str, names: Sequence[str], notes: Sequence[str], unreadable: int) -> Report:
        """Add everything up. Rows whose windows still run count as they are now, their stories as not known."""
        rows = self._rows
        rows.groups = max(1, len(self._users))
        slots = np.flatnonzero(rows.state > 0)
        weighed = slots[rows.usable[slots]]
        totals = rows.totals(slots, self._model(weighed))
        counted = totals.policies["target"]
        (u, realised), _ = rows.promises(slots)
        wanted = tuple(name for name in names if name != "dr" or self._target.models_rewards)
        found = estimates(counted, wanted, self._difference)
        if "dr" in names and "dr" not in found:
            found["dr"] = Estimate(Weights(counted.rows, 0.0, 0.0, 0.0), refused="model")
        lost = len(self._usable) - len(weighed)
        return Report(
            policy,
            counted.rows,
            len(self._users),
            dict(self._excluded) | ({"not finite": lost} if lost else {}),
            len(rows.open_slots()),
            unreadable,
            self._difference,
            counted.logged_value,
            found,
            totals.choice,
            totals.u,
            totals.q,
            tenths(u, realised),
            list(notes),
        )

    def _within(self, entry: Entry) -> bool:
        where = (entry.partition, entry.offset, entry.append_ms)
        return not self._wanted.before(*where) and not self._wanted.behind(*where)

    def _refuse_trained(self, entry: Entry) -> None:
        if self._loaded is None or not self._loaded.trained_on(entry):
            return
        self.trained += 1
        if not self._allow_trained:
            raise RefusedStart(
                f"{self._loaded.name} was trained on events of this range, and would be judged by what it has learned "
                f"by heart: {self._loaded.remedy}. Evaluate on those, or add --allow-trained and read the result as a "
                "fit"
            )

    def _follow(self, events: Sequence[Impression], append_ms: Sequence[int]) -> None:
        users = [self._users.setdefault(event.user_id, len(self._users)) for event in events]
        slots = self._rows.open(events, append_ms, users)
        usable = []
        for slot, event in zip(slots, events, strict=True):
            reason = exclusion(event)
            if reason is None:
                usable.append((slot, event))
            else:
                self._excluded[reason] += 1
        if usable:
            self._weigh([slot for slot, _ in usable], [event for _, event in usable])

    def _weigh(self, slots: list[int], events: list[Impression]) -> None:
        with np.errstate(all="ignore"):  # numbers that make no sense are left out and counted
            off = largest_difference(logged_slates(events, POSITIONS))
            self._difference = max(self._difference, math.inf if math.isnan(off) else off)
            logged, target = self._target.weigh(events)
            self._rows.weigh(slots, logged, {"target": target})
        self._usable += slots

    def _model(self, weighed: np.ndarray) -> RewardModel | None:
        """Return expected rewards: consumption as the choice head has it, at the log's mean reward for each."""
        if not self._target.models_rewards or not len(weighed):
            return None
        expected = np.zeros((len(self._rows.state), 2))
        expected[self._usable] = self._target.expected
        each = self._rows.reward_of_consumption(weighed)
        return RewardModel(each * expected[weighed, 0], each * expected[weighed, 1])
