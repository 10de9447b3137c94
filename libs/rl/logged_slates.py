"""Logged slates as arrays, and how likely another policy would have shown them (rl.md §7).

A row here is one impression as serving logged it. What a policy would have done follows from scores, temperature and ε
alone: the candidates' logged scores for policies that only explore differently, scores of another snapshot otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from libs.rl import slates
from libs.rl.slates import Exploration, log_probabilities

Exclusion: TypeAlias = Literal["external", "greedy", "unlogged"]
EXCLUSIONS: Final = ("external", "greedy", "unlogged")
"""Why an impression says nothing about another policy: not drawn by moard; nothing left to chance; parts missing."""


@runtime_checkable
class Logged(Protocol):
    """What an impression has to say; ``libs.events.schema.Impression`` does."""

    @property
    def slate(self) -> tuple[int, ...]: ...  # noqa: D102 - as in the wire contract
    @property
    def candidates(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def scores(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def log_propensities(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def arm(self) -> str: ...  # noqa: D102
    @property
    def temperature(self) -> float: ...  # noqa: D102
    @property
    def epsilon(self) -> float: ...  # noqa: D102


def exclusion(logged: Logged) -> Exclusion | None:
    """Return why an impression has to stay out of off-policy estimates, None when it may be used.

    An estimate divides by the probability of what was shown. Without one, or with one that says "always", there is
    nothing to learn about what was not shown.
    """
    if logged.arm == "external":
        return "external"
    if not (logged.log_propensities and logged.scores):
        return "unlogged"
    if logged.arm == "greedy" or (len(logged.candidates) > 1 and not any(logged.log_propensities)):
        return "greedy"
    return "unlogged" if logged.temperature <= 0 else None


@dataclass(frozen=True, slots=True)
class LoggedSlates:
    """Rows padded to one width: ``scores`` beyond ``counts`` are 0, ``positions`` beyond a slate −1."""

    scores: Float32[np.ndarray, "B K"]
    counts: Int64[np.ndarray, "B"]
    positions: Int64[np.ndarray, "B N"]
    temperature: Float64[np.ndarray, "B"]
    epsilon: Float64[np.ndarray, "B"]
    log_propensities: Float64[np.ndarray, "B N"]

    @property
    def shown(self) -> Bool[np.ndarray, "B N"]:
        """Where there is a content."""
        return self.positions >= 0


def logged_slates(
    rows: Sequence[Logged], size: int, scores: Sequence[Float32[np.ndarray, "_"]] | None = None
) -> LoggedSlates:
    """Return usable impressions as arrays, each slate cut to its first ``size`` positions.

    A prefix is an outcome with a probability of its own, so that a cut slate stays a fair sample of shorter ones.
    ``scores`` replaces the logged ones.
    """
    if scores is None:
        scores = [np.array(row.scores, np.float32) for row in rows]
    counts = np.array([len(each) for each in scores], np.int64)
    padded = np.zeros((len(rows), int(counts.max(initial=1))), np.float32)
    positions = np.full((len(rows), size), -1, np.int64)
    log_propensities = np.zeros((len(rows), size))
    for at, (row, each) in enumerate(zip(rows, scores, strict=True)):
        padded[at, : len(each)] = each
        shown = row.slate[:size]
        if len(shown) < 8:  # looking through the tuple beats a dictionary while few are looked for
            where = [row.candidates.index(content_id) for content_id in shown]
        else:
            where = list(map({content_id: i for i, content_id in enumerate(row.candidates)}.__getitem__, shown))
        positions[at, : len(where)] = where
        log_propensities[at, : len(where)] = row.log_propensities[:size]
    temperature = np.array([row.temperature for row in rows], np.float64)
    epsilon = np.array([row.epsilon for row in rows], np.float64)
    return LoggedSlates(padded, counts, positions, temperature, epsilon, log_propensities)


def policies(logged: LoggedSlates) -> dict[str, Float64[np.ndarray, "B N"]]:
    """Return prefix log-probabilities of the slates under the counterfactual policies that need nothing but the log.

    ``uniform`` draws at random; ``exploit`` halves the temperature and has no uniform arm.
    """
    found = {"uniform": _uniform(logged), "exploit": _plackett_luce(logged, logged.temperature / 2)}
    return {name: np.where(logged.shown, each, 0.0) for name, each in found.items()}


def prefix_log_probabilities(
    logged: LoggedSlates, temperature: Float64[np.ndarray, "B"], epsilon: Float64[np.ndarray, "B"]
) -> Float64[np.ndarray, "B N"]:
    """Return ``slates.log_probabilities`` of many slates at once, 0 beyond a slate."""
    both = slates.mixture(_plackett_luce(logged, temperature), _uniform(logged), epsilon[:, None])
    return np.where(logged.shown, both, 0.0)


def largest_difference(logged: LoggedSlates) -> float:
    """Return how far logged log-propensities are from those that follow from the logged scores, at most."""
    again = prefix_log_probabilities(logged, logged.temperature, logged.epsilon)
    return float(np.abs(np.where(logged.shown, again - logged.log_propensities, 0.0)).max(initial=0.0))


def difference(logged: Logged) -> float:
    """Return the same for one impression, by the function that drew it."""
    places = {content_id: at for at, content_id in enumerate(logged.candidates)}
    positions = np.array([places[content_id] for content_id in logged.slate], np.int64)
    exploration = Exploration(logged.temperature, logged.epsilon)
    again = log_probabilities(np.array(logged.scores, np.float32), positions, exploration)
    return float(np.abs(again - np.array(logged.log_propensities)).max())


def _uniform(logged: LoggedSlates) -> Float64[np.ndarray, "B N"]:
    return slates.uniform_log_probabilities(logged.counts, logged.positions)


def _plackett_luce(logged: LoggedSlates, temperature: Float64[np.ndarray, "B"]) -> Float64[np.ndarray, "B N"]:
    logits, valid = slates.standardised(logged.scores, logged.counts)
    return slates.policy_log_probabilities(logits / temperature[:, None], valid, logged.positions)
