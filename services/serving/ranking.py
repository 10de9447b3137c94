"""The core: from a request and what is known of its user to a slate, with the exact probability of choosing it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption, Exploration, Rule, Scores, Slate, plackett_luce_all, slate_scores
from libs.rl.transitions import State

COLD = "cold"

# A content published this moment counts as much as one consumed e - 1 times; a week later half as much. A choice of
# ours: without it, what is new would wait behind everything that was ever clicked until the first snapshot.
_RECENCY_HALF_LIFE_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be shown: ids, each once, and their rows in the action space."""

    ids: Int64[np.ndarray, "K"]
    indices: Int32[np.ndarray, "K"]

    def __len__(self) -> int:
        return len(self.ids)


class Wish(NamedTuple):
    """What to rank for whom: a slate of ``size``, or of all there is."""

    candidates: Candidates
    state: State
    size: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What candidates are ranked by, and what the network predicted; None where none ranked."""

    scores: Float32[np.ndarray, "K"]
    predicted: Scores | None = None


@dataclass(frozen=True, slots=True)
class Learned:
    """Ranks by one snapshot and one rule."""

    scorer: Scorer
    version: int
    rule: Rule
    consumption: Consumption

    @property
    def policy(self) -> str:
        """The rule's name."""
        return self.rule

    @property
    def exploration_boost(self) -> float:
        """What the learner asks exploration to be multiplied by: above 1 while slates narrow."""
        return self.scorer.snapshot.exploration_boost

    def scores_all(self, wishes: Sequence[Wish]) -> list[Scored]:
        """Return the scores of rl.md §1 under the rule, for each wish."""
        predicted = self.scorer.score_all([(wish.state, wish.candidates.indices) for wish in wishes])
        return [
            Scored(slate_scores(one, self.rule, self.consumption, wish.size), one)
            for one, wish in zip(predicted, wishes, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Cold:
    """Ranks by how often a content was consumed and how new it is, while nothing has been learned.

    ``age_s`` is the time since publication, infinite where it is not known.
    """

    consumptions: Int64[np.ndarray, "K"]
    age_s: Float64[np.ndarray, "K"]
    policy: str = COLD
    version: int = 0
    exploration_boost: float = 1.0

    def scores_all(self, wishes: Sequence[Wish]) -> list[Scored]:
        """Return popularity plus recency, for wishes of these candidates; the same for everybody."""
        popularity, recency = self.parts()
        return [Scored((popularity + recency).astype(np.float32))] * len(wishes)

    def parts(self) -> tuple[Float64[np.ndarray, "K"], Float64[np.ndarray, "K"]]:
        """Return popularity and recency of each candidate, what scores add up from."""
        recency: np.ndarray = np.exp2(-np.maximum(self.age_s, 0.0) / _RECENCY_HALF_LIFE_S)
        return np.log1p(self.consumptions), recency


Model: TypeAlias = Learned | Cold


@dataclass(frozen=True, slots=True)
class Ranking:
    """A slate with everything its impression needs to say how it came about."""

    candidates: Candidates
    slate: Slate
    policy: str
    version: int
    exploration: Exploration
    predicted: Scores | None = None

    @property
    def content_ids(self) -> Int64[np.ndarray, "N"]:
        """The slate's contents, in the order they are shown."""
        ids: np.ndarray = self.candidates.ids[self.slate.positions]
        return ids

    @property
    def scores(self) -> Float32[np.ndarray, "N"]:
        """The scores of the slate's contents."""
        scores: np.ndarray = self.slate.scores[self.slate.positions]
        return scores

    @property
    def propensities(self) -> Float64[np.ndarray, "N"]:
        """Probability of each position's content given the positions before it."""
        return np.exp(np.diff(self.slate.log_propensities, prepend=0.0))


def rank(
    candidates: Candidates, state: State, model: Model, exploration: Exploration, size: int, rng: np.random.Generator
) -> Ranking:
    """Choose a slate of ``size`` (or all there is) for one user, with the exact probability of choosing it."""
    return rank_all([Wish(candidates, state, size)], model, exploration, rng)[0]


def rank_all(wishes: Sequence[Wish], model: Model, exploration: Exploration, rng: np.random.Generator) -> list[Ranking]:
    """Choose a slate for each wish, in order; a few at once cost little more than one.

    Raises
    ------
    ValueError
        A score is not finite.
    """
    used = exploration.boosted(model.exploration_boost)
    scored = model.scores_all(wishes)
    slates = plackett_luce_all([each.scores for each in scored], used, [wish.size for wish in wishes], rng)
    return [
        Ranking(wish.candidates, slate, model.policy, model.version, used, each.predicted)
        for wish, each, slate in zip(wishes, scored, slates, strict=True)
    ]
