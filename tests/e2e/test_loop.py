"""The loop on real Kafka, Redis and MariaDB: a click changes the rankings."""

import pytest

from tests.e2e.running_system import RunningSystem

pytestmark = pytest.mark.stack

CONTENTS = list(range(1, 9))


def _scores(system: RunningSystem, user_id: str) -> dict[int, float]:
    answer = system.rank(user_id, CONTENTS, size=len(CONTENTS))
    return {item["content_id"]: item["score"] for item in answer["slate"]}


def test_a_clicked_content_rises(system: RunningSystem) -> None:
    for content_id in CONTENTS:
        system.put_content(content_id, title=f"content {content_id}")
    # A first snapshot, so that the scores before and after come from the same kind of policy.
    first = system.rank("pioneer", CONTENTS, size=len(CONTENTS))
    assert first["policy"] == "cold"
    system.click("pioneer", first["slate"][0]["content_id"], first["impression_id"])
    version = system.wait_for_newer_snapshot(0)

    before = _scores(system, "observer")
    last = min(before, key=before.__getitem__)
    for number in range(12):
        shown = system.rank(f"user-{number}", CONTENTS, size=len(CONTENTS))
        system.click(f"user-{number}", last, shown["impression_id"])
    system.wait_until_learned()
    system.wait_for_newer_snapshot(version)

    rank_before = sorted(before, key=before.__getitem__, reverse=True).index(last)
    assert rank_before == len(CONTENTS) - 1
    system.eventually_true(lambda: _rank_of(system, last) < rank_before, "the clicked content to rise")
    assert system.learner_metric("interactions_total", outcome="joined") == 13


def _rank_of(system: RunningSystem, content_id: int) -> int:
    after = _scores(system, "observer")
    return sorted(after, key=after.__getitem__, reverse=True).index(content_id)
