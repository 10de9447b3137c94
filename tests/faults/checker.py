"""Decides from histories alone whether what moard promises was kept. Knows nothing of how moard works inside.

A check looks at a history and yields what is wrong with it, in words. Rows have the ones of ``EVERY`` unless they name
others, and add their own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from tests.faults.history import Answered, Failed, History, Injected, Published, Recovered

Check: TypeAlias = Callable[[History], Iterable[str]]
SHOWN = 5  # ids named in a message


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one trial showed. ``recovery_s`` is the longest, 0 where nothing had to recover."""

    row: str
    seed: int
    faults: int
    acknowledged: int
    inserted: int
    lost: int
    doubled: int
    recovery_s: float
    problems: tuple[str, ...]


def judge(row: str, seed: int, history: History, checks: Iterable[Check]) -> Verdict:
    """Return the verdict on one history."""
    problems = [f"did not end: {failed.why}" for failed in history.of(Failed)]
    for check in checks:
        problems += check(history)
    return Verdict(
        row=row,
        seed=seed,
        faults=len(history.of(Injected)),
        acknowledged=len(set(history.acknowledged)),
        inserted=len(set(history.ledger)),
        lost=len(_lost(history)),
        doubled=len(_doubled(history)),
        recovery_s=max((recovered.seconds for recovered in history.of(Recovered)), default=0.0),
        problems=tuple(problems),
    )


def nothing_lost(history: History) -> Iterator[str]:
    """Every acknowledged event is in the log and in the ledger."""
    log = set(history.log)
    if missing := [event_id for event_id in dict.fromkeys(history.acknowledged) if event_id not in log]:
        yield f"{len(missing)} acknowledged events are not in the log: {missing[:SHOWN]}"
    if lost := _lost(history):
        yield f"{len(lost)} acknowledged events are not in the ledger: {lost[:SHOWN]}"


def nothing_doubled(history: History) -> Iterator[str]:
    """No event is in the ledger twice."""
    if doubled := _doubled(history):
        yield f"{len(doubled)} events are in the ledger more than once: {doubled[:SHOWN]}"


def nothing_invented(history: History) -> Iterator[str]:
    """Whatever the ledger holds came from the log."""
    log = set(history.log)
    if invented := [event_id for event_id in history.ledger if event_id not in log]:
        yield f"{len(invented)} events of the ledger are not in the log: {invented[:SHOWN]}"


def versions_rise(history: History) -> Iterator[str]:
    """The pointer names versions that rise; no client sees rankings of an older version than before."""
    for before, after in pairwise(history.of(Published)):
        if after.version <= before.version:
            yield f"version {after.version} was published after {before.version}"
    seen: dict[str, int] = {}
    for answer in history.of(Answered):
        if answer.version is None:
            continue
        if answer.version < (newest := seen.get(answer.client, 0)):
            yield f"{answer.client} was ranked for with {answer.version} after {newest}"
        seen[answer.client] = answer.version


def offsets_never_go_back(history: History) -> Iterator[str]:
    """A higher version never holds less of any partition."""
    for before, after in pairwise(history.of(Published)):
        for partition, offset in before.offsets.items():
            if after.offsets.get(partition, 0) < offset:
                yield (
                    f"version {after.version} holds {partition} up to {after.offsets.get(partition, 0)}, "
                    f"{before.version} held {offset}"
                )


def epochs_never_go_back(history: History) -> Iterator[str]:
    """Once a newer learner has published, no older one does."""
    for before, after in pairwise(history.of(Published)):
        if after.epoch < before.epoch:
            yield f"version {after.version} is of epoch {after.epoch}, the one before of {before.epoch}"


def pointers_fit_blobs(history: History) -> Iterator[str]:
    """What the pointer names is what lies there, by SHA-256."""
    for published in history.of(Published):
        if not published.pointer_sha256 == published.meta_sha256 == published.blob_sha256:
            yield (
                f"version {published.version}: the pointer says {published.pointer_sha256[:12]}, its metadata "
                f"{published.meta_sha256[:12]}, the blob is {published.blob_sha256[:12]}"
            )


def something_happened(history: History) -> Iterator[str]:
    """Faults were injected, events acknowledged, and snapshots published: a history of nothing shows nothing."""
    for what, found in (
        ("fault was injected", history.of(Injected)),
        ("event was acknowledged", history.acknowledged),
        ("snapshot was published", history.of(Published)),
    ):
        if not found:
            yield f"no {what}"


def statuses(rank: Iterable[int] = (200,), events: Iterable[int] = (202, 503)) -> Check:
    """Return a check that clients were answered with these statuses and no other."""
    allowed = {"rank": set(rank), "events": set(events)}

    def only_allowed_statuses(history: History) -> Iterator[str]:
        counted = Counter((answer.call, answer.status) for answer in history.of(Answered))
        for (call, status), count in sorted(counted.items()):
            if status not in allowed[call]:
                yield f"{count} times {call} was answered with {status or 'nothing'}"

    return only_allowed_statuses


DELIVERY: tuple[Check, ...] = (nothing_lost, nothing_doubled, nothing_invented)
SNAPSHOTS: tuple[Check, ...] = (versions_rise, offsets_never_go_back, epochs_never_go_back, pointers_fit_blobs)
EVERY: tuple[Check, ...] = (something_happened, *DELIVERY, *SNAPSHOTS, statuses())
"""What must hold unless a row says otherwise."""


def _lost(history: History) -> list[str]:
    ledger = set(history.ledger)
    return [event_id for event_id in dict.fromkeys(history.acknowledged) if event_id not in ledger]


def _doubled(history: History) -> list[str]:
    return [event_id for event_id, count in Counter(history.ledger).items() if count > 1]
