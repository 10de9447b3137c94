"""What the projector may pass over."""

from services.ingest.recent_records import RecentRecords


def test_it_knows_what_was_added_and_nothing_else() -> None:
    recent = RecentRecords()
    recent.add([b"a", b"b"])
    assert b"a" in recent
    assert b"b" in recent
    assert b"c" not in recent
    assert None not in recent


def test_it_forgets_the_oldest_and_stays_small() -> None:
    recent = RecentRecords(capacity=10)
    for start in range(0, 1_000, 10):
        recent.add(str(number).encode() for number in range(start, start + 10))
    assert all(str(number).encode() in recent for number in range(990, 1_000))
    assert not any(str(number).encode() in recent for number in range(900))
    assert len(recent._young) + len(recent._old) <= 20
