"""However records were fetched, they come out in the order of the log: by append time, topic, partition, offset."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.adapters.ports import Record, TopicPartition
from services.learner.merge import Merge

PARTITIONS = [TopicPartition("contents", 0), TopicPartition("events", 0), TopicPartition("events", 1)]
FAR_MS = 10_000

Log = dict[TopicPartition, list[Record]]


def log_of(times: list[list[int]]) -> Log:
    return {
        tp: [Record(tp.topic, tp.partition, offset, at_ms, None, None) for offset, at_ms in enumerate(appended)]
        for tp, appended in zip(PARTITIONS, times, strict=True)
    }


def in_order(log: Log) -> list[Record]:
    """Sort with everything at hand; a time earlier than the one before it in its partition counts as that one."""
    keyed = []
    for tp, records in log.items():
        latest_ms = 0
        for record in records:
            latest_ms = max(latest_ms, record.append_ms)
            keyed.append(((latest_ms, *tp, record.offset), record))
    return [record for _, record in sorted(keyed, key=lambda entry: entry[0])]


class Fetching:
    """Feeds a merge in portions, and says of a partition that it is idle when it has been read up to a moment."""

    def __init__(self, log: Log, count: int) -> None:
        self.log = log
        self.count = count
        self.merge = Merge(log)
        self.next = dict.fromkeys(log, 0)
        self.taken: list[Record] = []

    def fetch(self, tp: TopicPartition, size: int) -> None:
        start = self.next[tp]
        self.merge.add(self.log[tp][start : start + size])
        self.next[tp] = min(len(self.log[tp]), start + size)

    def ask(self, tp: TopicPartition, after_ms: int) -> None:
        """Say what a broker asked at some moment would have: the partition was read up to its end of that moment."""
        unread = self.log[tp][self.next[tp] :]
        latest_ms = max([record.append_ms for record in self.log[tp][: self.next[tp]]], default=0)
        # A clock set back lets a record have a time before the moment at which it was appended.
        bound_ms = max([latest_ms, unread[0].append_ms]) if unread else FAR_MS
        self.merge.known_idle(tp, min(bound_ms, after_ms))

    def drain(self) -> None:
        while found := self.merge.take(self.count):
            assert len(found) == self.count
            self.taken += found

    def restart(self) -> None:
        """Go on as a process would that was started again with the offsets of what was taken."""
        self.next = {tp: sum(TopicPartition(r.topic, r.partition) == tp for r in self.taken) for tp in self.log}
        self.merge = Merge(self.log)

    def finish(self) -> None:
        for tp in self.log:
            self.fetch(tp, len(self.log[tp]))
            self.ask(tp, FAR_MS)
        self.drain()


times = st.lists(st.integers(1, 6), max_size=10)
# A clock that mostly rises, stands still at times, and is set back now and then.
clocks = times.flatmap(lambda at: st.booleans().map(lambda risen: sorted(at) if risen else at))
steps = st.lists(
    st.tuples(st.sampled_from(["fetch", "ask", "drain", "restart"]), st.integers(0, 2), st.integers(1, 12)), max_size=30
)


@settings(max_examples=500, deadline=None)
@given(st.tuples(clocks, clocks, clocks), steps, st.integers(1, 7))
@example(([], [5, 5], [5]), [("ask", 0, 9), ("fetch", 1, 1), ("fetch", 2, 1), ("drain", 0, 1)], 1)
def test_any_fetching_gives_the_same_rounds(
    clock: tuple[list[int], ...], plan: list[tuple[str, int, int]], count: int
) -> None:
    log = log_of(list(clock))
    fetching = Fetching(log, count)
    for action, which, size in plan:
        tp = PARTITIONS[which]
        match action:
            case "fetch":
                fetching.fetch(tp, size)
            case "ask":
                fetching.ask(tp, size)
            case "restart":
                fetching.restart()
            case _:
                fetching.drain()
    fetching.finish()

    whole = in_order(log)
    assert fetching.taken == whole[: len(whole) // count * count]
    assert fetching.merge.pending == len(whole) % count


def test_nothing_comes_out_that_something_unread_could_precede() -> None:
    log = log_of([[5], [5], [7]])
    merge = Merge(log)
    merge.add(log[PARTITIONS[1]])
    merge.known_idle(PARTITIONS[2], 5)  # a record of 5 there would come later: its partition is the higher one
    assert merge.take(1) == []
    merge.known_idle(PARTITIONS[0], 5)  # but here it would come first
    assert merge.take(1) == []
    merge.known_idle(PARTITIONS[0], 6)

    assert merge.take(1) == log[PARTITIONS[1]]
    assert merge.merged_ms == 5


def test_a_partition_far_ahead_is_named_until_the_others_have_caught_up() -> None:
    log = log_of([[], [1, 2, 3], [4]])
    merge = Merge(log)
    merge.add(log[PARTITIONS[1]])
    assert merge.ahead(3) == [PARTITIONS[1]]
    merge.known_idle(PARTITIONS[0], FAR_MS)
    merge.add(log[PARTITIONS[2]])

    assert merge.take(2) == log[PARTITIONS[1]][:2]
    assert merge.ahead(3) == []
