"""Evaluation while learning: what serving promised against what came, beside the policy that made the log (rl.md §7).

Runs on what the join says, in the event loop, and needs no agent. Begins anew with each process: a restart reads the
events since the checkpoint again, and nothing that the process before it counted is in these numbers.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final
from zlib import crc32

import numpy as np

from libs.adapters.evaluation_metrics import EvaluationMetrics
from libs.events.schema import Impression
from libs.rl.evaluation import INVALIDITIES, Estimate
from libs.rl.logged_slates import difference, exclusion, logged_slates, policies
from libs.rl.off_policy import estimates
from libs.rl.transitions import Erased, Opened, RowChange
from services.learner.attribution import Arrival
from services.learner.evaluation_rows import POSITIONS, EvaluationRows, Goal, Totals

POLICIES: Final = ("uniform", "exploit")
ESTIMATORS: Final = ("ips", "snrips")

_GROUPS: Final = 256  # of users: the bootstrap's unit, so that sums stay small and additive whoever comes
_RESAMPLES: Final = 200
_CHECK_EVERY: Final = 64  # the propensities of one impression in so many are computed again
_CHECKED: Final = 128  # of which the last so many decide whether propensities are right
_EVICTED: Final = 2_048  # closed rows that leave the window at once
_WEIGHED: Final = 512  # impressions weighed at once: 0.4 MB of scores
_REFRESH_S: Final = 10.0
_FEWEST: Final = 2**20 - 1  # of a million users one is followed: fewer would be none


class Evaluation:
    """Follows impressions from their arrival until they leave the window.

    Parameters
    ----------
    window
        Closed rows that the windowed figures are made of: amended while in it, part of the totals for good afterwards.
    final_ms
        How long after its append an impression may still be closed; what is open then was never seen by anybody.

    Notes
    -----
    About 10 µs an event under load. A value is judged by the story after it, which has to be known while its row is in
    the window. Memory is bounded: at most ``window`` rows are followed until they close. When more users are about,
    only a share of them is, by a hash of their id, so that stories stay whole; the others are counted.
    """

    def __init__(
        self,
        goal: Goal,
        metrics: EvaluationMetrics,
        window: int,
        final_ms: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = EvaluationRows(goal, POLICIES, _GROUPS)
        self._metrics = metrics
        self._window = window
        self._final_ms = final_ms
        self._clock_s = clock_s
        self._closed: deque[int] = deque()
        self._left = self._rows.totals(np.zeros(0, np.int64))
        self._left_rows = 0
        self._differences: deque[float] = deque(maxlen=_CHECKED)
        self._usable = 0
        self._mask = 0
        self.outcomes: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._refreshed_s = clock_s()

    def observe(self, arrivals: Sequence[Arrival], changes: Sequence[RowChange], watermark_ms: int) -> None:
        """Take in what the join made of these arrivals."""
        self._open(arrivals, changes)
        for change in changes:
            if isinstance(change, Erased):
                self._erase(change.user_id)
            slot = self._rows.change(change)
            if slot is not None:
                self._closed.append(slot)
        while len(self._closed) > self._window + _EVICTED:
            self._evict([self._closed.popleft() for _ in range(_EVICTED)])
        while len(self._rows) - len(self._closed) > self._window and self._mask < _FEWEST:
            self._follow_fewer()
        if self._clock_s() - self._refreshed_s >= _REFRESH_S:
            self.show(watermark_ms)

    def show(self, watermark_ms: int) -> None:
        """Bring the metrics up to date: some 0.1 s for a full window."""
        unseen = self._rows.open_slots()
        self._rows.forget(unseen[self._rows.append_ms[unseen] < watermark_ms - self._final_ms])
        window = self._rows.totals(np.array(self._closed, np.int64))
        self._show_outcomes()
        self._show_span("window", len(self._closed), window)
        self._show_span("total", len(self._closed) + self._left_rows, self._left + window)
        if self._mask and 4 * (len(self._rows) - len(self._closed)) < self._window:
            self._mask >>= 1  # the crowd has gone: follow more of those who are left
        self._refreshed_s = self._clock_s()

    @property
    def propensity_difference(self) -> float:
        """Largest difference between logged and recomputed log-propensities among those checked last."""
        return max(self._differences, default=0.0)

    def __len__(self) -> int:
        """Return the number of rows held."""
        return len(self._rows)

    def _open(self, arrivals: Sequence[Arrival], changes: Sequence[RowChange]) -> None:
        opened = {change.row_id for change in changes if isinstance(change, Opened)}
        taken: list[tuple[Impression, int, int]] = []
        for _, append_ms, event in arrivals:
            if isinstance(event, Impression) and event.event_id in opened:
                opened.discard(event.event_id)  # said again in the same batch, it is a repetition
                user = _number(event.user_id)
                if user // _GROUPS & self._mask:
                    self.outcomes["not_followed"] += 1
                else:
                    taken.append((event, append_ms, user))
        if taken:
            events, times, users = zip(*taken, strict=True)
            self._sort_out(events, self._rows.open(events, times, users))

    def _sort_out(self, events: Sequence[Impression], slots: Sequence[int]) -> None:
        usable: list[tuple[int, Impression]] = []
        for slot, event in zip(slots, events, strict=True):
            reason = exclusion(event)
            self.outcomes[reason or "usable"] += 1
            if reason is None:
                usable.append((slot, event))
        for start in range(0, len(usable), _WEIGHED):
            self._weigh(usable[start : start + _WEIGHED])

    def _weigh(self, usable: Sequence[tuple[int, Impression]]) -> None:
        events = [event for _, event in usable]
        with np.errstate(all="ignore"):  # anybody can post an impression with numbers that make no sense
            logged = logged_slates(events, POSITIONS)
            self._rows.weigh([slot for slot, _ in usable], logged, policies(logged))
            for event in events[-self._usable % _CHECK_EVERY :: _CHECK_EVERY]:
                off = difference(event)
                self._differences.append(off if off >= 0 else float("inf"))  # not a number: not right
        self._usable += len(events)

    def _evict(self, slots: list[int]) -> None:
        self._left = self._left + self._rows.totals(np.array(slots, np.int64))
        self._left_rows += len(slots)
        self._rows.forget(slots)

    def _erase(self, user_id: str) -> None:
        """Let go of a user's impressions; of the closed ones the sums stay."""
        slots = self._rows.slots_of(_number(user_id))
        closed = set(self._closed).intersection(slots.tolist())
        self._rows.forget([slot for slot in slots.tolist() if slot not in closed])
        self._evict(sorted(closed))
        self._closed = deque(slot for slot in self._closed if slot not in closed)

    def _follow_fewer(self) -> None:
        """Halve the share of users that is followed, and let go of what the others have open."""
        self._mask = 2 * self._mask + 1
        slots = self._rows.open_slots()
        self._rows.forget(slots[self._rows.user[slots] // _GROUPS & self._mask > 0])

    def _show_outcomes(self) -> None:
        for outcome, count in (self.outcomes - self._shown).items():
            self._metrics.impressions.labels(outcome).inc(count)
        self._shown = self.outcomes.copy()

    def _show_span(self, span: str, rows: int, totals: Totals) -> None:
        metrics, choice = self._metrics, totals.choice
        metrics.rows.labels(span).set(rows)
        for measure in ("logloss", "normalised_logloss", "auc", "calibration_error", "base_rate"):
            metrics.choice_quality.labels(measure, span).set(getattr(choice, measure))
        metrics.value_slope.labels("u", span).set(totals.u.slope)
        metrics.value_slope.labels("q", span).set(totals.q.slope)
        metrics.logged_value.labels(span).set(totals.policies[POLICIES[0]].logged_value)
        wrong: set[str] = set()
        for policy in POLICIES:
            found = estimates(totals.policies[policy], ESTIMATORS, self.propensity_difference, _RESAMPLES)
            for estimator, estimate in found.items():
                self._show_estimate((policy, estimator), span, estimate)
                wrong.add(estimate.invalid)
        for reason in INVALIDITIES:
            metrics.valid.labels(reason, span).set(reason not in wrong)

    def _show_estimate(self, which: tuple[str, str], span: str, estimate: Estimate) -> None:
        numbers = {"value": estimate.value if estimate.usable else None}
        if estimate.interval is not None and estimate.usable:
            numbers |= {"low": estimate.interval.low, "high": estimate.interval.high}
        for stat in ("value", "low", "high"):
            number = numbers.get(stat)
            self._metrics.policy_value.labels(*which, stat, span).set(float("nan") if number is None else number)
        weights = estimate.weights
        for stat, number in (("ess", weights.ess), ("mean", weights.mean), ("largest_share", weights.largest_share)):
            self._metrics.policy_weights.labels(*which, stat, span).set(number)


def _number(user_id: str) -> int:
    return crc32(user_id.encode())
