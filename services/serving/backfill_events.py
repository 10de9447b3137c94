"""Rows of the legacy tables as events. Ids follow from row ids: streaming a row again repeats its event."""

from collections.abc import Iterator

from libs.adapters.training_ports import LegacyLogRow, LegacyRecommendation
from libs.events.schema import MAX_HISTORY, MAX_SLATE, Event, Impression, Interaction


def events_of(recommendation: LegacyRecommendation) -> Iterator[Event]:
    """Yield the impression, if it can be told who was shown what, and the interactions that name it.

    Which other contents there were, and how likely the slate was, the legacy server never wrote down: the impression
    is that of a backend that ranks by itself, which off-policy evaluation leaves out. Its history are the clicks
    before it, what moves a history by rl.md §5.
    """
    shown = impression_of(recommendation)
    if shown is not None:
        yield shown
    for row in recommendation.logs:
        yield interaction_of(row, shown is not None)


def impression_of(recommendation: LegacyRecommendation) -> Impression | None:
    """Return the impression, None for one whose user is gone or whose slate is empty."""
    if recommendation.user_id is None or not recommendation.slate:
        return None
    at_ms = _moment(recommendation.timestamp_ms)
    clicks = recommendation.clicks_before[:MAX_HISTORY] if at_ms is not None else ()
    return Impression(
        event_id=impression_id(recommendation.recommendation_id),
        user_id=recommendation.user_id,
        slate=recommendation.slate[:MAX_SLATE],
        history=tuple(content_id for content_id, _ in clicks),
        history_age_s=tuple(max(0, (at_ms or 0) - clicked_ms) / 1_000 for _, clicked_ms in clicks),
        recommendation_id=str(recommendation.recommendation_id),
        timestamp_ms=at_ms,
        source="backfill",
    )


def interaction_of(row: LegacyLogRow, shown: bool) -> Interaction:
    """Return the interaction of a log; ``shown``: an impression of its recommendation is streamed too."""
    named = row.recommendation_id is not None
    return Interaction(
        event_id=f"legacy-log-{row.log_id}",
        user_id=row.user_id,
        kind=row.kind,
        content_id=row.content_id,
        impression_id=impression_id(row.recommendation_id) if shown and row.recommendation_id is not None else None,
        recommendation_id=str(row.recommendation_id) if named else None,
        ratio=row.ratio if row.kind == "view" and row.ratio is not None and 0 <= row.ratio <= 1 else None,
        timestamp_ms=_moment(row.timestamp_ms),
        source="backfill",
    )


def impression_id(recommendation_id: int) -> str:
    """Return the event id of a recommendation's impression."""
    return f"legacy-recommendation-{recommendation_id}"


def _moment(timestamp_ms: int | None) -> int | None:
    return None if timestamp_ms is None or timestamp_ms < 0 else timestamp_ms
