"""When the log has forgotten a user too."""

from datetime import UTC, datetime, timedelta

import pytest

from services.cli.user_export import gone

HOUR_MS = 3_600_000


def test_the_last_record_of_a_segment_decides_when_it_goes() -> None:
    config = {"retention.ms": str(5 * HOUR_MS), "segment.ms": str(2 * HOUR_MS), "cleanup.policy": "delete"}
    told = datetime.fromisoformat(gone(config) or "")
    assert timedelta(hours=7) < told - datetime.now(UTC) < timedelta(hours=7.5)


@pytest.mark.parametrize(("retention", "policy"), [("-1", "delete"), ("1000", "compact")])
def test_a_topic_that_keeps_everything_is_said_to(retention: str, policy: str) -> None:
    assert gone({"retention.ms": retention, "segment.ms": "1000", "cleanup.policy": policy}) is None
