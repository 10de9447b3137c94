"""What the backlog is made of, and what is read off while it drains."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import heartbeats
from benchmarks.backlog import Reading, backlog
from libs.events.codec import decode_event
from libs.events.schema import Impression, Interaction


def test_every_impression_is_followed_by_a_click_on_it_and_a_seed_repeats_them() -> None:
    records = list(backlog(40, seed=1))
    events = [decode_event(record.value) for record in records]
    assert len({event.event_id for event in events}) == 40
    for shown, click in list(pairwise(events))[::2]:
        assert isinstance(shown, Impression)
        assert isinstance(click, Interaction)
        assert click.impression_id == shown.event_id
        assert click.content_id in shown.slate
    assert records == list(backlog(40, seed=1)) != list(backlog(40, seed=2))


def test_the_rate_begins_with_the_first_record_and_memory_is_read_by_share() -> None:
    reading = Reading([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 100.0, 300.0, 400.0], [10.0, 10.0, 20.0, 40.0, 41.0])
    assert reading.rate() == pytest.approx(400 / 3)
    assert [reading.memory_at(share) for share in (0.2, 0.5, 1.0)] == [20.0, 40.0, 41.0]


def test_a_service_writes_down_its_heartbeats(tmp_path: Path) -> None:
    environment = heartbeats.watched(tmp_path)
    assert environment["PYTHONPATH"].startswith(str(tmp_path))
    assert heartbeats.gaps(tmp_path) == []
    (tmp_path / "heartbeats").write_text("10.0\n11.0\n13.5\n")
    assert heartbeats.gaps(tmp_path) == [1.0, 2.5]
