"""The impression: what was shown, from what, to whom in which state, and how likely (design.md §5)."""

from libs.events.schema import Impression
from libs.rl.slates import Exploration
from libs.rl.transitions import State
from services.serving.ranking import Ranking


def impression_of(
    impression_id: str, user_id: str, state: State, ranking: Ranking, exploration: Exploration, now_ms: int
) -> Impression:
    """Return the event from which the learner rebuilds this ranking, and from which its propensities follow again."""
    slate = ranking.slate
    return Impression(
        event_id=impression_id,
        user_id=user_id,
        slate=tuple(ranking.content_ids.tolist()),
        history=state.history,
        history_age_s=state.history_age_s,
        context=dict(state.context),
        candidates=tuple(ranking.candidates.ids.tolist()),
        scores=tuple(slate.scores.tolist()),
        log_propensities=tuple(slate.log_propensities.tolist()),
        policy=ranking.policy,
        arm=slate.arm,
        temperature=0.0 if exploration.greedy else exploration.temperature,
        epsilon=0.0 if exploration.greedy else exploration.epsilon,
        snapshot_version=ranking.version,
        timestamp_ms=now_ms,
    )
