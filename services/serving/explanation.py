"""Why a content is where it is: the numbers its score was made of, so that a developer can make it again.

The classes are both what is answered and what OpenAPI says of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from libs.rl.action_space import ActionSpace
from libs.rl.slates import Consumption, choice_offset, slate_advantage
from libs.rl.transitions import State
from services.serving.ranking import Cold, Learned, Model, Ranking

GIVEN: Final = "given"
"""Source of a candidate that the request named."""

_NEIGHBOURS: Final = 3

Number = Annotated[float | None, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A content of the user's history."""

    content_id: int
    cosine: Annotated[float, Field(description="Of the angle between both text vectors, -1 to 1.")]


@dataclass(frozen=True, slots=True)
class ChoiceParts:
    """What adds up to the choice logit."""

    network: Annotated[float, Field(description="Of the hidden layers: texts, ids, count and context together.")]
    ids: Annotated[float, Field(description="Product of what the ids of history and content have taught.")]
    content: Annotated[float, Field(description="The content's own, whoever asks.")]


@dataclass(frozen=True, slots=True)
class AdvantageParts:
    """What adds up to the advantage, in rewards."""

    network: Annotated[float, Field(description="Of the hidden layers: texts, ids, count and context together.")]
    ids: Annotated[float, Field(description="Product of what the ids of history and content have taught, mixed.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentExplanation:
    """Why one content has its score. Numbers of the network are null under the cold policy, and the other way round."""

    source: Annotated[str, Field(description="given (by the request), or proposed as nearest, popular, new or random.")]
    has_vector: Annotated[bool, Field(description="Whether the catalogue has a text vector of it.")]
    nearest_history: Annotated[
        Sequence[Neighbour], Field(description="Contents of the user's history most like it by text, at most three.")
    ]
    consumptions: Annotated[
        int | None,
        Field(description="How often it was consumed, as far as the policy knows; null: its snapshot knows nothing."),
    ]
    choice_logit: Annotated[Number, Field(description="ℓ: log-odds of being chosen, before everything else.")] = None
    choice_probability: Annotated[
        Number, Field(description="p: multi: 1/(1 + exp(-ℓ)); single: exp(ℓ) / (1 + Σ exp(ℓ) of the slate shown).")
    ] = None
    advantage: Annotated[
        Number, Field(description="A: what consuming it is worth beyond the user's continuation, in rewards.")
    ] = None
    value: Annotated[Number, Field(description="Q̄ = N + A: long-term value of consuming it, in rewards.")] = None
    choice_parts: ChoiceParts | None = None
    advantage_parts: AdvantageParts | None = None
    popularity: Annotated[Number, Field(description="Cold policy: log(1 + consumptions).")] = None
    recency: Annotated[Number, Field(description="Cold policy: 1 when published now, half of it a week later.")] = None
    age_s: Annotated[Number, Field(description="Cold policy: seconds since publication, null where unknown.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExplanation:
    """What is the same for all contents of a slate, in rewards; null under the cold policy.

    A content's score is, by ``rule`` and ``consumption``:

    - value, multi: choice_probability · advantage
    - value, single: exp(choice_logit − choice_offset) · (advantage − slate_advantage)
    - a: advantage
    - p, multi: choice_probability
    - p, single: exp(choice_logit − choice_offset)
    - cold: popularity + recency
    """

    rule: Annotated[str, Field(description="value, a, p, or cold.")]
    consumption: Annotated[
        str | None, Field(description="multi: several contents of a slate may be consumed; single: at most one.")
    ] = None
    user_value: Annotated[
        Number, Field(description="U: expected discounted rewards from this request on under the policy that serves.")
    ] = None
    continuation: Annotated[
        Number, Field(description="N: what is expected after this request, whatever is consumed.")
    ] = None
    empty_advantage: Annotated[Number, Field(description="A⊥: the advantage of consuming nothing.")] = None
    slate_advantage: Annotated[
        Number,
        Field(description="λ: expected advantage of the best slate, which contents must surpass; single only."),
    ] = None
    choice_offset: Annotated[
        Number, Field(description="Taken off choice logits before their exponential: largest of the candidates or 0.")
    ] = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of a whole slate; ``contents`` in its order."""

    request: RequestExplanation
    contents: Sequence[ContentExplanation]


def explain(ranking: Ranking, model: Model, state: State, space: ActionSpace, sources: Sequence[str]) -> Explanation:
    """Return the reasons of a ranking that ``model`` has just made; ``sources`` are those of its candidates."""
    positions = ranking.slate.positions
    indices = ranking.candidates.indices[positions]
    shared = [
        {"source": sources[position], "has_vector": bool(space.has_vector[index]), "nearest_history": nearest}
        for position, index, nearest in zip(
            positions.tolist(), indices.tolist(), _neighbours(indices, state, space), strict=True
        )
    ]
    own = _cold(model, positions) if isinstance(model, Cold) else _learned(model, ranking, state)
    contents = [ContentExplanation(**common, **numbers) for common, numbers in zip(shared, own, strict=True)]
    return Explanation(_request(model, ranking), contents)


def _request(model: Model, ranking: Ranking) -> RequestExplanation:
    predicted = ranking.predicted
    if isinstance(model, Cold) or predicted is None:
        return RequestExplanation(rule=ranking.policy)
    single = model.consumption == "single"
    return RequestExplanation(
        rule=ranking.policy,
        consumption=model.consumption,
        user_value=predicted.u,
        continuation=predicted.n,
        empty_advantage=predicted.a_empty,
        slate_advantage=slate_advantage(predicted, len(ranking.slate.positions)) if single else None,
        choice_offset=choice_offset(predicted) if single else None,
    )


def _learned(model: Learned, ranking: Ranking, state: State) -> list[dict[str, Any]]:
    positions, predicted = ranking.slate.positions, ranking.predicted
    assert predicted is not None  # noqa: S101 - for the type checker: a snapshot ranked
    parts = model.scorer.parts(state, ranking.candidates.indices[positions])
    logits, advantages = predicted.choice[positions], predicted.advantage[positions]
    columns = {
        "consumptions": [count if count >= 0 else None for count in parts.consumptions.tolist()],
        "choice_logit": logits.tolist(),
        "choice_probability": _choice_probabilities(logits, model.consumption).tolist(),
        "advantage": advantages.tolist(),
        "value": (advantages.astype(np.float64) + predicted.n).tolist(),
        "choice_parts": _rows(ChoiceParts, parts.choice_network, parts.choice_ids, parts.choice_bias),
        "advantage_parts": _rows(AdvantageParts, parts.advantage_network, parts.advantage_ids),
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _choice_probabilities(logits: np.ndarray, consumption: Consumption) -> np.ndarray:
    """Return the probability that each content of a slate is consumed."""
    wide = logits.astype(np.float64)
    if consumption == "multi":
        probabilities: np.ndarray = 0.5 * (1 + np.tanh(wide / 2))
        return probabilities
    terms = np.append(wide, 0.0)  # ⊥
    weights = np.exp(terms - terms.max())
    shares: np.ndarray = weights / weights.sum()
    return shares[:-1]


def _cold(model: Cold, positions: np.ndarray) -> list[dict[str, Any]]:
    popularity, recency = model.parts()
    columns = {
        "consumptions": model.consumptions[positions].tolist(),
        "popularity": popularity[positions].tolist(),
        "recency": recency[positions].tolist(),
        "age_s": [age if np.isfinite(age) else None for age in model.age_s[positions].tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _rows(kind: type[Any], *columns: np.ndarray) -> list[Any]:
    return [kind(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _neighbours(indices: np.ndarray, state: State, space: ActionSpace) -> list[list[Neighbour]]:
    """Return the contents of the history with a vector that are most like each content, best first."""
    consumed = np.array(list(dict.fromkeys(state.history)), np.int64)  # one consumed twice is one reason
    known = space.index(consumed.tolist())
    ids = consumed[space.has_vector[known]].tolist()
    known = known[space.has_vector[known]]
    cosines = _unit(indices, space) @ _unit(known, space).T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :_NEIGHBOURS]
    return [
        [Neighbour(ids[at], float(row[at])) for at in order] if has_vector else []
        for row, order, has_vector in zip(cosines, best.tolist(), space.has_vector[indices].tolist(), strict=True)
    ]


def _unit(indices: np.ndarray, space: ActionSpace) -> np.ndarray:
    unit: np.ndarray = space.vectors[indices] * space.inverse_norm[indices, None]
    return unit
