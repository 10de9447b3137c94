"""F8: Redis is killed and comes back empty, while users are served, and while a pin stands."""

from collections.abc import Iterator

from infra.local import LocalStack
from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, degraded_by, recovered_within
from tests.faults.trial import DEADLINE_S, Trial
from tests.running_system import RunningSystem, eventually

QUIET_USER = "nobody-else-clicks-for-her"


def run(trial: Trial) -> None:
    with trial.stack() as stack, trial.watched(stack) as system:
        with trial.users(system):
            trial.await_snapshot()
            post_visits(system)
            for _ in range(trial.choose(full=3, short=1)):
                trial.pause(0.2, 1.5)
                lose_redis(trial, stack)
                with trial.recovering("a snapshot is published"):
                    trial.await_snapshot()
                histories_come_back(trial, system)
        trial.drain(system)
        pin_holds(trial, stack, system)
        trial.drain(system)


def lose_redis(trial: Trial, stack: LocalStack) -> None:
    trial.inject("kill -9 redis")
    stack.redis.kill()
    trial.pause(0.5, 2.0)
    stack.redis.start()
    trial.inject(HEALED)


def post_visits(system: RunningSystem) -> None:
    for content_id in (3, 1, 2):
        system.post({"kind": "click", "user_id": QUIET_USER, "content_id": content_id})


def histories_come_back(trial: Trial, system: RunningSystem) -> None:
    with trial.recovering("histories are rebuilt"):
        eventually(lambda: system.history(QUIET_USER) == [2, 1, 3], "the history", DEADLINE_S)


def pin_holds(trial: Trial, stack: LocalStack, system: RunningSystem) -> None:
    """Pin what ranks, lose Redis, and go on learning: the pin outlives both."""

    def newest_ranks() -> bool:  # what was read last may still have to be published
        return system.snapshot_version() == trial.pointer.version

    eventually(newest_ranks, "serving to rank with what the pointer names", DEADLINE_S)
    pinned = system.snapshot_version()
    answer = system.http.post(f"{system.serving.url}/api/v1/snapshots/{pinned}/pin")
    assert answer.status_code == 200, answer.text
    with trial.users(system):
        lose_redis(trial, stack)
        trial.await_snapshot()
        trial.await_snapshot()
        ranked = [system.rank("a-page", [1, 2, 3])["snapshot_version"] for _ in range(20)]
        trial.note("pinned", {"version": pinned, "ranked": sorted(set(ranked))})
        assert system.http.delete(f"{system.serving.url}/api/v1/snapshots/pin").status_code == 200
        eventually(lambda: system.snapshot_version() > pinned, "serving to follow again", DEADLINE_S)


def a_pin_held(history: History) -> Iterator[str]:
    """With a pin nothing else ranks, although Redis forgot it."""
    for pin in history.noted("pinned"):
        if pin["ranked"] != [pin["version"]]:
            yield f"{pin['version']} was pinned, and {pin['ranked']} ranked"


ROW = Row(
    "F8",
    fault="Redis kill -9 and empty restart",
    must_hold="0 × 5xx; a snapshot within 5 s; versions never decrease; histories rebuilt; a pin holds",
    run=run,
    checks=(*EVERY, degraded_by("history"), recovered_within(5.0, "a snapshot is published"), a_pin_held),
)
