"""The loop on real Kafka, Redis and MariaDB: a click changes the rankings."""

import pytest

from tests.running_system import RunningSystem, eventually

pytestmark = pytest.mark.stack

CONTENTS = list(range(1, 9))


def _ranking(system: RunningSystem) -> dict[int, float]:
    """Return the score of each content, best first, for a user who never did anything."""
    slate = system.rank("observer", CONTENTS, size=len(CONTENTS))["slate"]
    return {item["content_id"]: item["score"] for item in slate}


def test_a_clicked_content_rises(system: RunningSystem) -> None:
    for content_id in CONTENTS:
        system.put_content(content_id, title=f"content {content_id}")
    # A first snapshot, so that the scores before and after come from the same kind of policy.
    first = system.rank("pioneer", CONTENTS, size=len(CONTENTS))
    assert first["policy"] == "cold"
    system.click("pioneer", first["slate"][0]["content_id"], first["impression_id"])
    system.wait_for_newer_snapshot(0)

    before = _ranking(system)
    last = list(before)[-1]
    for number in range(12):
        shown = system.rank(f"user-{number}", CONTENTS, size=len(CONTENTS))
        system.click(f"user-{number}", last, shown["impression_id"])
    system.wait_until_learned()

    after = eventually(lambda: _when_risen(system, last), "the clicked content to leave the last place")
    assert after[last] > before[last]
    assert system.learner_metric("interactions_total", outcome="joined") == 13


def _when_risen(system: RunningSystem, content_id: int) -> dict[int, float] | None:
    after = _ranking(system)
    return after if list(after)[-1] != content_id else None
