"""Candidates for a request that names none, from the resident catalogue and the popular list."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Int8, Int32

from libs.adapters.metrics import ServingMetrics
from libs.adapters.ports import Visit
from libs.rl.transitions import State
from services.serving.contents import Contents
from services.serving.popularity import Popularity
from services.serving.proposals import SOURCES, Proposed, Source, direction, drawn, mixed, nearest
from services.serving.ranking import Candidates

# Up to here the product of all vectors with the user's takes 0.5 ms: less than handing it to another thread is worth.
_ON_THE_LOOP: Final = 10_000

SEEN: Final = 100
"""Visits of a user whose contents are left out: all that a history keeps."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Candidates, and the source of each, an index of ``SOURCES``."""

    candidates: Candidates
    sources: Int8[np.ndarray, "K"]


class Proposer:
    """Proposes contents of the catalogue. Belongs to the event loop; the large product runs beside it.

    Parameters
    ----------
    shares
        Of each source among the candidates, relative to each other.
    count
        Candidates proposed, if the catalogue has as many.
    seen
        Whether contents of the user's history may be proposed.
    """

    def __init__(
        self,
        contents: Contents,
        popularity: Popularity,
        metrics: ServingMetrics,
        rng: np.random.Generator,
        *,
        shares: Mapping[Source, float],
        count: int,
        seen: bool,
    ) -> None:
        self._contents = contents
        self._popularity = popularity
        self._metrics = metrics
        self._rng = rng
        self._shares = shares
        self._count = count
        self._seen = seen

    async def propose(self, state: State, visits: Sequence[Visit], excluded: Sequence[int]) -> Proposal:
        """Return candidates for this state, none hidden, excluded or visited; empty when the catalogue is."""
        visited = [] if self._seen else [visit.content_id for visit in visits]
        allowed = self._contents.showable([*excluded, *visited])
        popular, new = self._popularity.indices(self._contents.space), self._contents.recency.newest()
        ranked: dict[Source, np.ndarray] = {
            "nearest": await self._nearest(state, allowed),
            "popular": popular[allowed[popular]],
            "new": new[allowed[new]],
            "random": drawn(allowed, self._count, self._rng),
        }
        proposed = mixed(ranked, self._shares, self._count)
        return self._shown(proposed)

    async def _nearest(self, state: State, allowed: Bool[np.ndarray, "M"]) -> Int32[np.ndarray, "C"]:
        space = self._contents.space
        history = space.index(state.history)
        ages = np.array(state.history_age_s, np.float64)
        user = direction(space.vectors[history], space.inverse_norm[history], ages) if self._shares["nearest"] else None
        if user is None:
            return np.zeros(0, np.int32)
        # As many rows as were allowed: what the loop adds meanwhile stays out, also where a new array takes over.
        size = len(allowed)
        vectors, inverse_norm = space.vectors[:size], space.inverse_norm[:size]
        if size <= _ON_THE_LOOP:
            return nearest(user, vectors, inverse_norm, allowed, self._count)
        return await asyncio.to_thread(nearest, user, vectors, inverse_norm, allowed, self._count)

    def _shown(self, proposed: Proposed) -> Proposal:
        """Leave out what was hidden while the product ran."""
        space = self._contents.space
        shown = ~space.hidden[proposed.indices]
        indices, sources = proposed.indices[shown], proposed.sources[shown]
        for source, number in zip(SOURCES, np.bincount(sources, minlength=len(SOURCES)).tolist(), strict=True):
            self._metrics.proposed.labels(source).inc(number)
        return Proposal(Candidates(space.ids[indices], indices), sources)
