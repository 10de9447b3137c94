"""Legacy rows as events: what is kept, what is left open, and that the wire contract takes all of it."""

import pytest

from libs.adapters.training_ports import LegacyLogRow, LegacyRecommendation
from libs.events.codec import decode_event, encode
from libs.events.schema import Impression, Interaction
from libs.rl.logged_slates import exclusion
from services.serving.backfill_events import events_of, interaction_of
from tests.unit.serving.legacy_rows import MINUTE_MS, T0_MS, user

CLICK = LegacyLogRow(7, user(1), "click", 12, 3, None, T0_MS + 5_000)
VIEW = LegacyLogRow(8, user(1), "view", 11, 3, 0.25, T0_MS + 9_000)
SHOWN = LegacyRecommendation(3, user(1), T0_MS, (11, 12), ((5, T0_MS - MINUTE_MS), (4, T0_MS - 2 * MINUTE_MS)))


def test_a_recommendation_is_an_impression_and_the_interactions_that_name_it() -> None:
    shown, click, view = events_of(
        LegacyRecommendation(3, user(1), T0_MS, (11, 12), SHOWN.clicks_before, (CLICK, VIEW))
    )
    assert shown == Impression(
        event_id="legacy-recommendation-3",
        user_id=user(1),
        slate=(11, 12),
        history=(5, 4),
        history_age_s=(60.0, 120.0),
        recommendation_id="3",
        timestamp_ms=T0_MS,
        source="backfill",
    )
    assert click == Interaction(
        event_id="legacy-log-7",
        user_id=user(1),
        kind="click",
        content_id=12,
        impression_id="legacy-recommendation-3",
        recommendation_id="3",
        timestamp_ms=T0_MS + 5_000,
        source="backfill",
    )
    assert isinstance(view, Interaction)
    assert (view.kind, view.ratio, view.impression_id) == ("view", 0.25, "legacy-recommendation-3")
    for event in (shown, click, view):
        assert decode_event(encode(event)) == event


def test_off_policy_evaluation_leaves_these_impressions_out() -> None:
    (shown,) = events_of(SHOWN)
    assert isinstance(shown, Impression)
    assert (shown.arm, shown.log_propensities, shown.candidates) == ("external", (), ())
    assert exclusion(shown) == "external"


@pytest.mark.parametrize(
    "recommendation",
    [
        LegacyRecommendation(3, None, T0_MS, (11,), (), (CLICK,)),
        LegacyRecommendation(3, user(1), T0_MS, (), (), (CLICK,)),
    ],
)
def test_without_user_or_slate_the_interactions_stand_alone(recommendation: LegacyRecommendation) -> None:
    (click,) = events_of(recommendation)
    assert isinstance(click, Interaction)
    assert (click.impression_id, click.recommendation_id) == (None, "3")


def test_a_log_of_no_recommendation_names_none() -> None:
    event = interaction_of(LegacyLogRow(9, user(1), "click", 1), shown=False)
    assert (event.impression_id, event.recommendation_id, event.timestamp_ms) == (None, None, None)
    assert decode_event(encode(event)) == event


@pytest.mark.parametrize("ratio", [None, -0.1, 1.5, 40.0, float("nan")])
def test_a_ratio_that_is_none_is_left_out(ratio: float | None) -> None:
    assert interaction_of(LegacyLogRow(9, user(1), "view", 1, ratio=ratio), shown=False).ratio is None


def test_what_no_event_can_hold_is_cut_or_left_open() -> None:
    long = LegacyRecommendation(3, user(1), -5, tuple(range(80)), tuple((n, T0_MS) for n in range(40)))
    (shown,) = events_of(long)
    assert isinstance(shown, Impression)
    assert (len(shown.slate), shown.history, shown.timestamp_ms) == (50, (), None)
    later = LegacyRecommendation(3, user(1), T0_MS, (1,), tuple((n, T0_MS - n) for n in range(40)))
    (shown,) = events_of(later)
    assert isinstance(shown, Impression)
    assert len(shown.history) == len(shown.history_age_s) == 30
    assert decode_event(encode(shown)) == shown
