"""F15: the database is away: known users are served as ever, others by a guess that is named."""

import asyncio
from collections.abc import Iterator
from uuid import UUID

from tests.contract.catalogue_stand import create_legacy_tables, execute
from tests.faults.checker import EVERY
from tests.faults.history import History
from tests.faults.row import Row
from tests.faults.surroundings import HEALED, repeat
from tests.faults.trial import DEADLINE_S, Trial
from tests.faults.workload import CONTENTS
from tests.running_system import RunningSystem, eventually


def run(trial: Trial) -> None:
    clicked, listed = a_user(trial), a_user(trial)
    with trial.stack(database=True) as stack:
        asyncio.run(create_legacy_tables(stack.addresses.database_url))
        user = ("INSERT INTO users VALUES (1, :octets)", {"octets": UUID(listed).bytes})
        asyncio.run(execute(stack.addresses.database_url, user))
        with trial.under_load(stack) as system:
            for content_id in CONTENTS:
                system.put_content(content_id, title=f"content {content_id}")
            system.post({"kind": "click", "user_id": clicked, "content_id": 1})
            eventually(lambda: top_contents(system, a_user(trial)) == (404, ()), "the catalogue", DEADLINE_S)
            for known in (clicked, listed):
                trial.note("before", top_contents(system, known))
            for fault in trial.choose(full=("kill -9", "SIGSTOP"), short=("SIGSTOP",)):
                trial.inject(f"{fault} database")
                (stack.mariadb.kill if fault == "kill -9" else stack.mariadb.pause)()
                repeat(lambda: ask(trial, system, (clicked, listed)), trial.choose(full=30.0, short=3.0))
                stack.mariadb.resume()
                stack.mariadb.start()
                trial.inject(HEALED)
                with trial.recovering("a stranger is known to be one"):
                    eventually(lambda: top_contents(system, a_user(trial)) == (404, ()), "the database", DEADLINE_S)


def a_user(trial: Trial) -> str:
    """Return a user nobody has heard of: whoever is shown something is known by that event."""
    return str(UUID(int=trial.chance.getrandbits(128), version=4))


def ask(trial: Trial, system: RunningSystem, known: tuple[str, ...]) -> None:
    for user_id in known:
        trial.note("known", top_contents(system, user_id))
    trial.note("unknown", top_contents(system, a_user(trial)))


def top_contents(system: RunningSystem, user_id: str) -> tuple[int, tuple[str, ...]]:
    """Return the status of the legacy call, and what the answer does without."""
    body = {"user_id": user_id, "content_ids": CONTENTS}
    answer = system.http.post(f"{system.serving.url}/api/v1/predict/top-contents", json=body)
    degraded = answer.headers.get("moard-degraded", "")
    return answer.status_code, tuple(degraded.split(",")) if degraded else ()


def known_users_are_served(history: History) -> Iterator[str]:
    """Known users get whole answers, an unknown one gets an answer that says what it does without."""
    for name, expected in (("before", [200, []]), ("known", [200, []]), ("unknown", [200, ["users"]])):
        answers = history.noted(name)
        if not answers:
            yield f"nobody asked for {name}"
        if other := [answer for answer in answers if answer != expected]:
            yield f"{len(other)} of {len(answers)} answers for {name} are other than {expected}: {other[:3]}"


ROW = Row(
    "F15",
    fault="database down for 30 s",
    must_hold="known users are answered as ever, others degraded; 0 × 5xx",
    run=run,
    checks=(*EVERY, known_users_are_served),
)
