"""The event time rule of streaming.md §2."""

from libs.events.event_time import LIVE_REACH_MS, event_time_ms

APPENDED = 1_700_000_000_000


def test_without_a_time_the_broker_says_when() -> None:
    assert event_time_ms(None, "live", APPENDED) == (APPENDED, None)


def test_a_time_in_reach_is_believed() -> None:
    assert event_time_ms(APPENDED, "live", APPENDED) == (APPENDED, None)
    assert event_time_ms(APPENDED - LIVE_REACH_MS, "live", APPENDED) == (APPENDED - LIVE_REACH_MS, None)


def test_the_future_is_clamped_also_for_a_backfill() -> None:
    assert event_time_ms(APPENDED + 1, "live", APPENDED) == (APPENDED, "future")
    assert event_time_ms(APPENDED + 1, "backfill", APPENDED) == (APPENDED, "future")


def test_only_a_backfill_may_be_old() -> None:
    old = APPENDED - LIVE_REACH_MS - 1
    assert event_time_ms(old, "live", APPENDED) == (APPENDED - LIVE_REACH_MS, "past")
    assert event_time_ms(old, "backfill", APPENDED) == (old, None)
    assert event_time_ms(0, "backfill", APPENDED) == (0, None)
