"""What the rows about servers and networks have in common: probes, spans of a history, and their checks."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.faults.checker import Check
from tests.faults.history import Answered, History, Injected, Recovered
from tests.faults.trial import DEADLINE_S, EVENTS, Trial
from tests.running_system import RunningSystem, eventually

HEALED: Final = "healed"
"""Written down as an injection, so that a history says when a fault ended."""

NOISE_S: Final = 10.0
"""Granted beside a deadline: the whole of a stack, its clients and its watchers share two cores."""


_ASK_EVERY_S: Final = 0.1


class Probe:
    """A client that tells whether events are taken and learned from now."""

    def __init__(self, trial: Trial, system: RunningSystem) -> None:
        self._trial = trial
        self._system = system
        self._backend = trial.backend(system)

    def deliver(self) -> None:
        """Return once one more event is acknowledged."""
        self._backend.deliver(self._backend.organic(1))

    def learned(self) -> None:
        """Return once the learner has read all that the log holds now."""
        ends = self._trial.log_ends(self._system)
        for partition, end in ends.items():
            eventually(lambda: self._position(partition) >= end, f"{partition} read up to {end}", DEADLINE_S)  # noqa: B023

    def _position(self, partition: int) -> float:
        return self._system.learner_metric("position", topic=EVENTS, partition=str(partition))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def during(history: History) -> Iterator[Answered]:
    """Yield what clients were answered between a fault and its end."""
    broken = False
    for _, record in history.records:
        if isinstance(record, Injected):
            broken = record.what != HEALED
        elif isinstance(record, Answered) and broken:
            yield record


def recovered_within(seconds: float, what: str = "") -> Check:
    """Return a check that all recoveries, or those whose words contain ``what``, took no longer."""

    def in_time(history: History) -> Iterator[str]:
        found = [recovered for recovered in history.of(Recovered) if what in recovered.what]
        if not found:
            yield f"nothing recovered: {what}"
        for recovered in found:
            if recovered.seconds > seconds:
                yield f"{recovered.what} took {recovered.seconds:.1f} s, allowed are {seconds:.0f} s"

    return in_time


def answered_within(call: str, deadline_s: float) -> Check:
    """Return a check that clients had an answer within a deadline while the fault lasted, and that some asked."""

    def in_time(history: History) -> Iterator[str]:
        took = [answer.took_s for answer in during(history) if answer.call == call]
        if not took:
            yield f"nobody called {call} while the fault lasted"
        elif max(took) > deadline_s + NOISE_S:
            yield f"an answer of {call} took {max(took):.1f} s, its deadline is {deadline_s:.0f} s"

    return in_time


def refusals_name_events(history: History) -> Iterator[str]:
    """Who is answered 503 is told which events to send again."""
    refused = [answer for answer in history.of(Answered) if (answer.call, answer.status) == ("events", 503)]
    if nameless := sum(not answer.named for answer in refused):
        yield f"{nameless} of {len(refused)} answers with 503 name no event"


def degraded_by(reason: str) -> Check:
    """Return a check that rankings said what they did without while the fault lasted."""

    def named(history: History) -> Iterator[str]:
        if not any(reason in answer.degraded for answer in during(history)):
            yield f"no answer says that it was degraded by {reason}"

    return named


def repeat(ask: Callable[[], None], seconds: float) -> None:
    """Ask again and again until the time is over; the answers are for a check to judge."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ask()
        time.sleep(_ASK_EVERY_S)
