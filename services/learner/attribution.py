"""The join of the event stream: one row per impression, amended by what its user did (streaming.md §4, rl.md §3).

Pure and deterministic: the same records in the same order give the same row changes, and within the displacement bound
any order, with any repetition, gives the same rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from libs.events.event_time import event_time_ms
from libs.events.schema import Erasure, Event, Impression, Interaction, Logged
from libs.rl.rewards import is_choice, moves_history, terms_of
from libs.rl.transitions import RowChange
from services.learner import join_state
from services.learner.dedup import DedupWindow
from services.learner.join import Join, Lane
from services.learner.story import Story, Taken
from services.learner.windows import JoinRules

OUTCOMES: Final = ("joined", "late_applied", "late_lost", "organic", "duplicate", "dead_lettered", "erased")


class Arrival(NamedTuple):
    """One decoded event and where it came from."""

    partition: int
    append_ms: int
    event: Logged


class Attribution:
    """Joins interactions to impressions, partition by partition.

    Attributes
    ----------
    tally
        Counts since the beginning of the lineage; each only rises. ``outcomes`` makes the final counts of them.
    """

    def __init__(self, rules: JoinRules) -> None:
        self._rules = rules
        self.tally: Counter[str] = Counter()
        self._dedup = DedupWindow(rules.limits.dedup_events, int(1000 * rules.limits.dedup_s))
        self._join = Join(rules, self._dedup, self.tally)
        self._lanes: dict[int, Lane] = {}
        self._accepted: list[str] = []

    def observe(self, arrivals: Sequence[Arrival], dead_letters: int = 0) -> list[RowChange]:
        """Take events in, each partition's in offset order, and return what they change in the buffer.

        ``dead_letters`` is how many records beside them could not be used.
        """
        self.tally["interactions"] += dead_letters
        self.tally["dead_lettered"] += dead_letters
        for partition, append_ms, event in arrivals:
            lane = self._lane(partition)
            if append_ms > lane.watermark_ms:
                lane.watermark_ms = append_ms
                self._join.settle(lane)
            match event:
                case Impression():
                    self._impression(lane, event, append_ms)
                case Interaction():
                    self._interaction(lane, event, append_ms)
                case Erasure():
                    self._erasure(event, append_ms)
        return self._join.take_changes()

    def advance(self, watermarks_ms: Mapping[int, int]) -> list[RowChange]:
        """Settle the deadlines of partitions that are known to have nothing appended before these times."""
        for partition, watermark_ms in watermarks_ms.items():
            lane = self._lane(partition)
            if watermark_ms > lane.watermark_ms:
                lane.watermark_ms = watermark_ms
                self._join.settle(lane)
        if self._lanes:
            self._dedup.expire(min(lane.watermark_ms for lane in self._lanes.values()))
        return self._join.take_changes()

    def take_accepted(self) -> list[str]:
        """Return the ids of events that took effect since the last call, in order; they belong into the ledger."""
        accepted, self._accepted = self._accepted, []
        return accepted

    def outcomes(self) -> dict[str, int]:
        """Return how many interactions ended how; together with ``held`` they are all interactions received."""
        final = {outcome: self.tally[outcome] for outcome in OUTCOMES}
        final["organic"] -= self.tally["retracted_joined"] + self.tally["retracted_late_applied"]
        return final

    @property
    def held(self) -> int:
        """Interactions that wait for the impression they name."""
        return self.tally["held"] - self.tally["released"]

    def impressions(self) -> Iterator[tuple[str, str, int]]:
        """Yield row id, user id and append time of the impressions that may still be amended; -1 where forgotten."""
        for shown in self._join.shown.values():
            yield shown.row_id, shown.user_id, shown.append_ms
        for row_id, finished in self._join.finished.items():
            yield row_id, finished.user_id, -1

    @property
    def open_impressions(self) -> int:
        """Impressions that may still be joined."""
        return len(self._join.shown)

    @property
    def watermark_ms(self) -> int:
        """Append time up to which the slowest partition's deadlines were settled; 0 before the first record."""
        return min((lane.watermark_ms for lane in self._lanes.values()), default=0)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return copies of everything, as arrays and as JSON-able values; take the accepted ids first."""
        arrays, meta = join_state.dump(self._join, self._lanes)
        arrays |= {f"dedup_{name}": array for name, array in self._dedup.state().items()}
        return arrays, meta | {"tally": dict(self.tally)}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned; only before the first record."""
        self.tally.update(meta["tally"])
        self._dedup.restore(arrays["dedup_ids"], arrays["dedup_append_ms"])
        self._lanes = join_state.load(self._join, arrays, meta)

    def _impression(self, lane: Lane, event: Impression, append_ms: int) -> None:
        if self._join.knows(event.event_id) or not self._admit(event.event_id, append_ms):
            self.tally["duplicate_impressions"] += 1
            return
        self.tally["impressions"] += 1
        at_ms = self._event_time(event, append_ms)
        story = self._story(lane, event.user_id)
        if story.missing_from(event, at_ms):
            self.tally["stale_history"] += 1
        self._join.impression(lane, story, event, at_ms, append_ms)

    def _interaction(self, lane: Lane, event: Interaction, append_ms: int) -> None:
        self.tally["interactions"] += 1
        if not self._admit(event.event_id, append_ms):
            self.tally["duplicate"] += 1
            return
        at_ms = self._event_time(event, append_ms)
        story = self._story(lane, event.user_id)
        self._join.interaction(lane, story, _taken(event, at_ms, append_ms))
        if event.content_id is not None and moves_history(event.kind, event.dwell_ms, self._rules.min_dwell_ms):
            story.visit(event.content_id, at_ms)

    def _erasure(self, event: Erasure, append_ms: int) -> None:
        if self._admit(event.event_id, append_ms):
            self.tally["erasures"] += 1
            self._join.erase(self._lanes.values(), event.user_id)

    def _lane(self, partition: int) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = Lane()
        return lane

    def _story(self, lane: Lane, user_id: str) -> Story:
        story = lane.stories.get(user_id)
        if story is None:
            self._make_room(lane)
            story = lane.stories[user_id] = Story()
        else:
            lane.stories.move_to_end(user_id)
        return story

    def _make_room(self, lane: Lane) -> None:
        """Forget the user who has been away for longest, unless something of theirs still waits."""
        if len(lane.stories) * len(self._lanes) < self._rules.limits.users:
            return
        oldest = next(iter(lane.stories))
        if lane.stories[oldest].idle:
            self.tally["evicted_story"] += 1
            del lane.stories[oldest]
        else:
            lane.stories.move_to_end(oldest)

    def _admit(self, event_id: str, append_ms: int) -> bool:
        if not self._dedup.admit(event_id, append_ms):
            return False
        self._accepted.append(event_id)
        return True

    def _event_time(self, event: Event, append_ms: int) -> int:
        at_ms, bound = event_time_ms(event.timestamp_ms, event.source, append_ms)
        if bound is not None:
            self.tally[f"clamped_{bound}"] += 1
        return at_ms


def _taken(event: Interaction, at_ms: int, append_ms: int) -> Taken:
    return Taken(
        event.event_id,
        event.user_id,
        event.kind,
        event.content_id,
        event.impression_id,
        at_ms,
        append_ms,
        terms_of(event.kind, event.dwell_ms, event.ratio, event.value),
        is_choice(event.kind),
    )
