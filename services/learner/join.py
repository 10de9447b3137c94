"""How events of one user become rows: matching, closing, and letting go (streaming.md §4, rl.md §3).

Append times set deadlines, event times decide what belongs to what.
"""

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from libs.events.schema import Impression
from libs.rl.transitions import (
    Closed,
    Consumed,
    Erased,
    Opened,
    Organic,
    Reopened,
    Retracted,
    RowChange,
    State,
    Withdrawn,
)
from services.learner.story import Shown, Story, Taken, Waits
from services.learner.windows import JoinRules


class Finished(NamedTuple):
    """What stays of an impression whose windows have passed, for late interactions that name it."""

    sequence: int
    user_id: str
    slate: tuple[int, ...]


@dataclass(slots=True)
class Lane:
    """One partition's share of the join; users never cross lanes."""

    watermark_ms: int = 0
    stories: OrderedDict[str, Story] = field(default_factory=OrderedDict)
    # Append times rise and every impression waits equally long, so that the oldest is always in front.
    shown: deque[Shown] = field(default_factory=deque)
    loose: list[tuple[int, int, Taken]] = field(default_factory=list)


class Join:
    """Impressions that may still change, their interactions, and what leaves both for the buffer.

    Parameters
    ----------
    rules
        Windows and bounds.
    known
        Event ids that were seen lately: an impression among them that is not here any more has been let go.
    tally
        Counters to add to; each only rises.
    """

    def __init__(self, rules: JoinRules, known: Container[str], tally: Counter[str]) -> None:
        self._rules = rules
        self._known = known
        self.tally = tally
        self.shown: dict[str, Shown] = {}
        self.finished: OrderedDict[str, Finished] = OrderedDict()  # cheap to forget the oldest of
        self.rows_inserted = 0
        self.changes: list[RowChange] = []
        self._timers = 0

    def take_changes(self) -> list[RowChange]:
        """Return what happened to rows since the last call."""
        changes, self.changes = self.changes, []
        return changes

    def impression(self, lane: Lane, story: Story, event: Impression, at_ms: int, append_ms: int) -> None:
        """Open a row, close the one before it, and give it what came before its time."""
        shown = Shown(event.event_id, event.user_id, at_ms, append_ms, event.slate, self.rows_inserted)
        state = State(event.history, event.history_age_s, event.context)
        self._insert(Opened(shown.row_id, state, event.slate, event.candidates, event.log_propensities, event.user_id))
        self.shown[shown.row_id] = shown
        lane.shown.append(shown)
        self._link(story, story.place(shown))
        self._welcome(lane, story, shown)
        self._cap(lane, story)

    def _link(self, story: Story, index: int) -> None:
        """Let the story go on from the impression before to this one, and from this one to the next."""
        for position in (index - 1, index):
            if position < 0 or position + 1 >= len(story.shown):
                continue
            shown, following = story.shown[position], story.shown[position + 1]
            if shown.next_key is None or following.key < shown.next_key:
                gap_ms = following.at_ms - shown.at_ms
                shown.next_key = following.key
                shown.gap_s = gap_ms / 1000 if gap_ms <= self._rules.windows.horizon_ms else None
                self._close(shown)

    def _close(self, shown: Shown) -> None:
        if self._rules.require_seen and not shown.looked_at:
            return  # nobody saw it: not choosing anything says nothing
        if shown.next_key is None or shown.gap_s is None:
            self.changes.append(Closed(shown.row_id))
        else:
            self.changes.append(Closed(shown.row_id, shown.next_key[1], shown.gap_s))

    def _welcome(self, lane: Lane, story: Story, shown: Shown) -> None:
        """Give a new impression the interactions that came before it."""
        for taken in story.held.pop(shown.row_id, ()):
            self._release(story, taken)
            if _shows(shown.slate, taken):
                self._attribute(story, shown, taken)
            else:
                self._organic(lane, story, taken, retractable=False)
        for taken in [item for item in story.organic if self._owns(shown, item)]:
            story.organic.remove(taken)
            taken.waits = ""
            if taken.choice:
                self.changes.append(Retracted(taken.organic_row_id))
            self.tally[f"retracted_{self._attribute(story, shown, taken)}"] += 1
        if shown.at_ms <= story.latest_loose_ms:
            for other in story.shown:
                if other.key < shown.key:
                    self._take_over(story, other, shown)

    def _owns(self, shown: Shown, taken: Taken) -> bool:
        if taken.impression_id is not None:
            return taken.impression_id == shown.row_id and _shows(shown.slate, taken)
        return shown.could_take(taken, self._rules.windows.of(taken.kind))

    def _take_over(self, story: Story, earlier: Shown, later: Shown) -> None:
        moving = [item for item in earlier.taken if item.impression_id is None and self._owns(later, item)]
        earlier.taken = [item for item in earlier.taken if item not in moving]
        for content_id in dict.fromkeys(_content(earlier.slate, item) for item in moving):
            self.changes.append(Withdrawn(earlier.row_id, content_id))
            for item in earlier.taken:
                if _content(earlier.slate, item) == content_id:
                    self._consume(earlier.row_id, earlier.slate, item)
        for item in moving:
            self._join(story, later, item)
        if earlier.looked_at and not any(map(_looks, earlier.taken)):
            earlier.looked_at = False
            if earlier.next_key is not None and self._rules.require_seen:
                self.changes.append(Reopened(earlier.row_id))

    def _finish(self, lane: Lane, shown: Shown) -> None:
        """Let go of an impression: its story ends here unless it is known to go on."""
        if shown.next_key is None:
            self._close(shown)
        lane.stories[shown.user_id].shown.remove(shown)
        del self.shown[shown.row_id]
        self.finished[shown.row_id] = Finished(shown.sequence, shown.user_id, shown.slate)
        shown.release()
        oldest = next(iter(self.finished))
        if len(self.finished) > self._rules.limits.closed_impressions or not self._buffered(self.finished[oldest]):
            del self.finished[oldest]

    def interaction(self, lane: Lane, story: Story, taken: Taken) -> None:
        """Find the impression an interaction belongs to; hold it, or let it stand alone, when there is none."""
        if taken.impression_id is None:
            match = story.match(taken, self._rules.windows.of(taken.kind))
            if match is None:
                self._organic(lane, story, taken, retractable=True)
            else:
                self._attribute(story, match, taken)
            return
        target = self.shown.get(taken.impression_id) or self.finished.get(taken.impression_id)
        if target is None and taken.impression_id in self._known:
            self.tally["late_lost"] += 1
        elif target is None:
            self._hold(lane, story, taken)
        elif target.user_id != taken.user_id or not _shows(target.slate, taken):
            self._organic(lane, story, taken, retractable=False)
        elif isinstance(target, Shown):
            self._attribute(story, target, taken)
        elif self._buffered(target):
            self.tally["late_applied"] += 1
            self._consume(taken.impression_id, target.slate, taken)
        else:
            self.tally["late_lost"] += 1

    def _attribute(self, story: Story, shown: Shown, taken: Taken) -> str:
        late = taken.append_ms - shown.append_ms > self._rules.windows.of(taken.kind)
        outcome = "late_applied" if late else "joined"
        self.tally[outcome] += 1
        self._join(story, shown, taken)
        return outcome

    def _join(self, story: Story, shown: Shown, taken: Taken) -> None:
        shown.taken.append(taken)
        if taken.impression_id is None:
            story.latest_loose_ms = max(story.latest_loose_ms, taken.at_ms)
        self._consume(shown.row_id, shown.slate, taken)
        if not shown.looked_at and _looks(taken):
            shown.looked_at = True
            if shown.next_key is not None and self._rules.require_seen:
                self._close(shown)

    def _consume(self, row_id: str, slate: tuple[int, ...], taken: Taken) -> None:
        if taken.terms:
            content_id = _content(slate, taken)
            self.changes.append(
                Consumed(row_id, content_id, taken.terms, taken.choice, taken.event_id, taken.append_ms)
            )

    def _hold(self, lane: Lane, story: Story, taken: Taken) -> None:
        self.tally["held"] += 1
        if story.held_count >= self._rules.limits.user_loose:
            self.tally["evicted_user"] += 1
            self.tally["released"] += 1
            self._organic(lane, story, taken, retractable=False)
            return
        story.held.setdefault(str(taken.impression_id), []).append(taken)
        story.held_count += 1
        self._wait(lane, taken, "held", taken.append_ms)

    def _release(self, story: Story, taken: Taken) -> None:
        taken.waits = ""
        story.held_count -= 1
        self.tally["released"] += 1

    def _organic(self, lane: Lane, story: Story, taken: Taken, *, retractable: bool) -> None:
        self.tally["organic"] += 1
        if taken.choice and taken.content_id is not None:
            state = story.state_at(taken.at_ms)
            self._insert(
                Organic(taken.organic_row_id, state, taken.content_id, taken.terms, taken.append_ms, taken.user_id)
            )
        if retractable and len(story.organic) >= self._rules.limits.user_loose:
            self.tally["evicted_user"] += 1
        elif retractable:
            story.organic.append(taken)
            self._wait(lane, taken, "organic", max(taken.append_ms, lane.watermark_ms))

    def erase(self, lanes: Iterable[Lane], user_id: str) -> None:
        """Forget a user: story, impressions and what waits; rows follow in the buffer. O(closed impressions)."""
        for lane in lanes:
            story = lane.stories.pop(user_id, None)
            if story is None:
                continue
            self.tally["released"] += story.held_count
            self.tally["erased"] += story.held_count
            for shown in story.shown:
                del self.shown[shown.row_id]
                shown.release()
            for taken in (*story.organic, *(taken for waiting in story.held.values() for taken in waiting)):
                taken.waits = ""
        for row_id in [row_id for row_id, each in self.finished.items() if each.user_id == user_id]:
            del self.finished[row_id]
        self.changes.append(Erased(user_id))

    def knows(self, row_id: str) -> bool:
        """Tell whether this impression was opened and is not forgotten yet."""
        return row_id in self.shown or row_id in self.finished

    def resume(self, lane: Lane, story: Story, taken: Taken) -> None:
        """Let a restored interaction go on waiting."""
        if taken.waits == "held":
            story.held.setdefault(str(taken.impression_id), []).append(taken)
            story.held_count += 1
        else:
            story.organic.append(taken)
        self._arm(lane, taken)

    def _wait(self, lane: Lane, taken: Taken, waits: Waits, from_ms: int) -> None:
        taken.waits, taken.deadline_ms = waits, from_ms + self._rules.windows.of(taken.kind)
        self._arm(lane, taken)

    def _arm(self, lane: Lane, taken: Taken) -> None:
        self._timers += 1  # keeps equal deadlines in order, and heapq from comparing interactions
        heapq.heappush(lane.loose, (taken.deadline_ms, self._timers, taken))

    def settle(self, lane: Lane) -> None:
        """Let every deadline before the lane's watermark pass."""
        while lane.loose and lane.loose[0][0] < lane.watermark_ms:
            deadline_ms, _, taken = heapq.heappop(lane.loose)
            if not taken.waits_until(deadline_ms):
                continue  # its impression came
            story = lane.stories[taken.user_id]
            if taken.waits == "organic":
                taken.waits = ""
                story.organic.remove(taken)
                continue
            story.held[str(taken.impression_id)].remove(taken)
            if not story.held[str(taken.impression_id)]:
                del story.held[str(taken.impression_id)]
            self._release(story, taken)
            self._organic(lane, story, taken, retractable=True)
        while lane.shown and (lane.shown[0].gone or self._final_ms(lane.shown[0]) < lane.watermark_ms):
            shown = lane.shown.popleft()
            if not shown.gone:
                self._finish(lane, shown)

    def _final_ms(self, shown: Shown) -> int:
        return shown.append_ms + self._rules.windows.final_ms

    def _cap(self, lane: Lane, story: Story) -> None:
        if len(story.shown) > self._rules.limits.user_impressions:
            self.tally["evicted_user"] += 1
            self._finish(lane, story.shown[0])
        limit = self._rules.limits.open_impressions
        # Those that left early stay in the queue until their time, slim: it is bounded too.
        while len(self.shown) > limit or len(lane.shown) > 2 * limit:
            shown = lane.shown.popleft()
            if not shown.gone:
                self.tally["evicted_global"] += 1
                self._finish(lane, shown)

    def _insert(self, row: Opened | Organic) -> None:
        self.rows_inserted += 1
        self.changes.append(row)

    def _buffered(self, finished: Finished) -> bool:
        """Tell whether a row is still in the ring: it leaves after ``buffer_rows`` newer ones."""
        return self.rows_inserted - finished.sequence <= self._rules.limits.buffer_rows


def _content(slate: tuple[int, ...], taken: Taken) -> int:
    """Return the content an interaction is about; a reward for an impression as a whole goes to its first content."""
    return slate[0] if taken.content_id is None else taken.content_id


def _looks(taken: Taken) -> bool:
    """Tell whether an interaction shows that somebody looked at the slate."""
    return taken.choice or taken.kind == "seen"


def _shows(slate: tuple[int, ...], taken: Taken) -> bool:
    return taken.content_id is None or taken.content_id in slate
