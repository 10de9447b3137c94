"""From a request to a logged answer: gather the state, rank, append the impression; do without what is away."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np

from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import Outgoing, Visit
from libs.events.codec import encode
from libs.events.schema import MAX_HISTORY
from libs.events.topics import EVENTS, user_key
from libs.rl.slates import Exploration
from libs.rl.transitions import State
from services.serving.contents import Contents
from services.serving.explanation import GIVEN, Explanation, explain
from services.serving.impressions import impression_of
from services.serving.model_watcher import ModelWatcher
from services.serving.outbox import Outbox
from services.serving.proposals import SOURCES
from services.serving.proposer import Proposer
from services.serving.ranking import Candidates, Cold, Model, Ranking, Wish, rank
from services.serving.turns import Turns
from services.serving.users import Users


@dataclass(frozen=True, slots=True)
class Request:
    """What shall be ranked for whom, ``content_ids`` None leaving it to moard what to choose from.

    ``known_only`` leaves out ids that the catalogue does not have. ``explain`` asks for the reasons. ``logged`` False
    appends no impression: somebody else tells the log what was shown.
    """

    user_id: str
    content_ids: Sequence[int] | None
    size: int
    excluded: Sequence[int] = ()
    context: Mapping[str, float | str] = field(default_factory=dict)
    known_only: bool = False
    explain: bool = False
    logged: bool = True


@dataclass(slots=True)
class Answer:
    """A ranking and its impression id, both None when there was nothing to show, the id also when it is not logged.

    ``degraded`` names the parts it had to do without (``metrics.DEGRADED_REASONS``). ``explanation`` is there if asked
    for and something was shown.
    """

    ranking: Ranking | None = None
    impression_id: str | None = None
    degraded: list[str] = field(default_factory=list)
    explanation: Explanation | None = None

    @property
    def snapshot_version(self) -> int:
        """Version that ranked, 0 for the cold policy."""
        return self.ranking.version if self.ranking is not None else 0


class Recommender:
    """Ranks for a user and logs what it did. Belongs to the event loop."""

    def __init__(
        self,
        users: Users,
        contents: Contents,
        proposer: Proposer,
        watcher: ModelWatcher,
        outbox: Outbox,
        exploration: Exploration,
        metrics: ServingMetrics,
        rng: np.random.Generator,
    ) -> None:
        self._users = users
        self._contents = contents
        self._proposer = proposer
        self._watcher = watcher
        self._outbox = outbox
        self._exploration = exploration
        self._metrics = metrics
        self._turns = Turns(exploration, rng)

    async def recommend(self, request: Request, visits: Sequence[Visit] | None, user_certain: bool = True) -> Answer:
        """Rank for one user whose history is ``visits``, newest first, None when it could not be read."""
        answer = Answer()
        if visits is None:
            answer.degraded.append("history")
        if not user_certain:
            answer.degraded.append("users")
        now_ms = time.time_ns() // 1_000_000
        state = _state(visits or (), request.context, now_ms)
        complete = await self._contents.resolve([*(request.content_ids or ()), *state.history])
        if not complete:
            answer.degraded.append("catalogue")
        candidates, sources = await self._candidates(request, state, visits or (), complete)
        if len(candidates):
            model = await self._model(candidates, answer, now_ms)
            answer.ranking = await self._turns.rank(model, Wish(candidates, state, request.size))
            if request.explain:
                answer.explanation = explain(answer.ranking, model, state, self._contents.space, sources)
            if request.logged:
                self._log(request, state, answer, now_ms)
        self._count(answer)
        return answer

    async def _candidates(
        self, request: Request, state: State, visits: Sequence[Visit], complete: bool
    ) -> tuple[Candidates, Sequence[str]]:
        """Return what to choose from and where each comes from."""
        if request.content_ids is None:
            proposal = await self._proposer.propose(state, visits, request.excluded)
            return proposal.candidates, [SOURCES[source] for source in proposal.sources.tolist()]
        # With SQL away nobody can tell an unknown content from one that was not read yet: it is ranked.
        known_only = request.known_only and complete
        candidates = self._contents.candidates(request.content_ids, request.excluded, known_only)
        return candidates, [GIVEN] * len(candidates)

    def warm_up(self) -> None:
        """Rank a full request once, so that the first caller does not pay for caches and lazy imports."""
        ids = np.arange(1_000, dtype=np.int64)
        candidates = Candidates(ids, np.zeros(len(ids), np.int32))
        nobody = Cold(np.zeros(len(ids), np.int64), np.zeros(len(ids)))
        model: Model = self._learned() or nobody
        rank(candidates, State(), model, self._exploration, 50, np.random.default_rng(0))

    def _learned(self) -> Model | None:
        served = self._watcher.served
        if served is None:
            return None
        served.model.scorer.refresh(self._contents.space)
        return served.model

    async def _model(self, candidates: Candidates, answer: Answer, now_ms: int) -> Model:
        learned = self._learned()
        if learned is not None:
            return learned
        if self._watcher.store_away:
            answer.degraded.append("snapshot")
        counts = await self._users.consumptions(candidates.ids.tolist())
        if counts is None:
            counts = [0] * len(candidates)
            if "history" not in answer.degraded:
                answer.degraded.append("history")
        return Cold(np.array(counts, np.int64), self._contents.recency.age_s(candidates.indices, now_ms))

    def _log(self, request: Request, state: State, answer: Answer, now_ms: int) -> None:
        ranking = answer.ranking
        assert ranking is not None  # noqa: S101 - for the type checker
        answer.impression_id = uuid4().hex
        event = impression_of(answer.impression_id, request.user_id, state, ranking, now_ms)
        taken = self._outbox.offer(Outgoing(EVENTS, user_key(request.user_id), encode(event)))
        if not taken or self._outbox.unanswered:
            answer.degraded.append("impression")

    def _count(self, answer: Answer) -> None:
        for reason in answer.degraded:
            self._metrics.degraded.labels(reason).inc()
        if answer.ranking is not None:
            self._metrics.rankings.labels(answer.ranking.policy, answer.ranking.slate.arm).inc()


def _state(visits: Sequence[Visit], context: Mapping[str, float | str], now_ms: int) -> State:
    visits = visits[:MAX_HISTORY]
    return State(
        history=tuple(visit.content_id for visit in visits),
        history_age_s=tuple(max(0, now_ms - visit.timestamp_ms) / 1_000 for visit in visits),
        context=context,
    )
