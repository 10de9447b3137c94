"""The core: from a request and what is known of its user to a slate, with the exact probability of choosing it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption, Exploration, Rule, Scores, Slate, plackett_luce, slate_scores
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

    def scores(self, state: State, candidates: Candidates, size: int) -> Scored:
        """Return the scores of rl.md §1 under the rule."""
        predicted = self.scorer.score(state, candidates.indices)
        return Scored(slate_scores(predicted, self.rule, self.consumption, size), predicted)


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

    def scores(self, state: State, candidates: Candidates, size: int) -> Scored:  # noqa: ARG002
        """Return popularity plus recency; the same for everybody."""
        popularity, recency = self.parts()
        return Scored((popularity + recency).astype(np.float32))

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
    scored = model.scores(state, candidates, size)
    used = exploration.boosted(model.exploration_boost)
    slate = plackett_luce(scored.scores, used, size, rng)
    return Ranking(candidates, slate, model.policy, model.version, used, scored.predicted)
