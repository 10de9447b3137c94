"""Users of the choc/kale world in front of a ranker that learns while it ranks for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks import choc_kale_world as world
from libs.rl.agent import Agent
from libs.rl.features import HISTORY
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration, Rule, plackett_luce, slate_scores
from libs.rl.transitions import Closed, Consumed, Opened, RowChange, State

GREEDY: Final = Exploration(greedy=True)
SHARE: Final = 0.35
"""Of the norm of a text vector in the product's shape: what its direction between kale and chocolate holds."""

Choose = Callable[[State, Sequence[int]], int]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The contents: id ``i`` lies at ``c[i]`` between kale (0) and chocolate (1)."""

    c: NDArray[np.float64]
    vectors: NDArray[np.float32]

    def offers(self, users: int, rng: np.random.Generator) -> list[list[int]]:
        """Return the candidates of one request of each user."""
        offered: list[list[int]] = rng.integers(0, len(self.c), (users, world.CANDIDATES)).tolist()
        return offered


def one_dimensional(seed: int, contents: int = 1_000) -> Catalogue:  # noqa: ARG001 - there is nothing to draw
    """Return contents whose vector says nothing but c: how much chocolate, how much kale."""
    c = (np.arange(contents) + 0.5) / contents
    return Catalogue(c, np.column_stack([c, 1 - c]).astype(np.float32))


def product_shape(seed: int, contents: int = 5_000, size: int = 300) -> Catalogue:
    """Return contents with text-like vectors of unit length of which one direction, ``SHARE`` of the norm, is c."""
    rng = np.random.default_rng(seed)
    c = rng.random(contents)
    flavour = rng.normal(size=size)
    flavour /= np.linalg.norm(flavour)
    rest = rng.normal(size=(contents, size))
    rest -= np.outer(rest @ flavour, flavour)
    rest *= np.sqrt(1 - SHARE**2) / np.linalg.norm(rest, axis=1, keepdims=True)
    along = SHARE * (c - 0.5) * np.sqrt(12)  # root mean square over the catalogue: SHARE
    return Catalogue(c, (rest + np.outer(along, flavour)).astype(np.float32))


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often users come, and whether their client tells how far the session is (it can count)."""

    gap_s: float
    tells_step: bool = False

    def state(self, visitor: "Visitor") -> State:
        """Return the state of a user at the next request."""
        ages = tuple(self.gap_s * (at + 1) for at in range(len(visitor.history)))
        return State(tuple(visitor.history), ages, self.context(visitor.steps))

    def context(self, steps: int) -> dict[str, float | str]:
        """Return what the client tells of a session in which ``steps`` contents were consumed."""
        return {"step": steps / world.STEPS} if self.tells_step else {}


@dataclass(slots=True)
class Visitor:
    """What a client knows of one user: the contents consumed, newest first, and how many in all."""

    name: str
    history: list[int] = field(default_factory=list)
    steps: int = 0

    def consume(self, content: int) -> None:
        """Remember a content."""
        self.history.insert(0, content)
        del self.history[HISTORY:]
        self.steps += 1


@dataclass(frozen=True, slots=True)
class Step:
    """One consumption as a ranker is told of it: step ``number`` of a user, the ``last`` one or not."""

    user: str
    number: int
    state: State
    content: int
    reward: float
    last: bool


class Ranker(Protocol):
    """What can be trained here."""

    def choose(self, state: State, candidates: Sequence[int]) -> int:
        """Return the content to show."""

    def tell(self, step: Step) -> None:
        """Take in what came of it."""

    def learn(self) -> None:
        """Learn, once everybody present has consumed something."""


class Ours:
    """The product's own agent: it ranks with snapshots that are a few updates old, as serving does."""

    def __init__(
        self, agent: Agent, catalogue: Catalogue, gap_s: float, exploration: Exploration, refresh: int, seed: int
    ) -> None:
        self.agent, self.exploration, self.refresh = agent, exploration, refresh
        self._gap_s = gap_s
        self._rng = np.random.default_rng(seed)
        self._scorer: Scorer | None = None
        self._scored_updates = 0
        for content_id, vector in enumerate(catalogue.vectors):
            agent.put_content(content_id, vector)

    def choose(self, state: State, candidates: Sequence[int]) -> int:
        """Return the content of a slate of one, explored as serving explores."""
        return self._choose(self._scorer, state, candidates, "value", self.exploration)

    def greedy(self, rule: Rule = "value") -> Choose:
        """Return the policy that always takes the best slate of what has been learned so far."""
        scorer = Scorer(self.agent.snapshot(), self.agent.space)
        return lambda state, candidates: self._choose(scorer, state, candidates, rule, GREEDY)

    def tell(self, step: Step) -> None:
        """Open the row of this request, which continues the one before."""
        row = f"{step.user}-{step.number}"
        terms = {"click": 1.0, "reward": step.reward}
        changes: list[RowChange] = [
            Opened(row, step.state, (step.content,)),
            Consumed(row, step.content, terms, choice=True, event_id=row, append_ms=0),
        ]
        if step.number:
            changes.append(Closed(f"{step.user}-{step.number - 1}", row, self._gap_s))
        if step.last:
            changes.append(Closed(row))
        self.agent.apply(changes)

    def learn(self) -> None:
        """Update while the replay ratio allows it; rank with a new snapshot from time to time."""
        while batch := self.agent.due():
            self.agent.update(batch)
        if self.agent.updates >= self._scored_updates + self.refresh:
            self._scorer = Scorer(self.agent.snapshot(), self.agent.space)
            self._scored_updates = self.agent.updates

    def _choose(
        self, scorer: Scorer | None, state: State, candidates: Sequence[int], rule: Rule, exploration: Exploration
    ) -> int:
        scores = np.zeros(len(candidates), np.float32)
        if scorer is not None:
            said = scorer.score(state, self.agent.space.index(candidates))
            scores = slate_scores(said, rule, self.agent.settings.consumption, 1)
        return candidates[int(plackett_luce(scores, exploration, 1, self._rng).positions[0])]


class Crowd:
    """Users side by side, each with a hidden NPE; who has consumed ``world.STEPS`` contents makes room for a new one.

    They begin one after the other, so that a learner sees all stages of a session at once.
    """

    def __init__(self, catalogue: Catalogue, rhythm: Rhythm, users: int, seed: int, staggered: bool = True) -> None:
        self.catalogue, self.rhythm = catalogue, rhythm
        self.rng = np.random.default_rng(seed)
        self.visitors = [Visitor(f"u{number}") for number in range(users)]
        self.served = users
        self._npe = world.first_exposure(users, self.rng)
        self._begins = np.arange(users) * world.STEPS // users if staggered else np.zeros(users, np.int64)
        self._rounds = 0

    def train(self, ranker: Ranker, steps: int) -> float:
        """Let users consume about so many contents; return what a whole session would bring at this rate."""
        worth: list[NDArray[np.float64]] = []
        while sum(map(len, worth)) < steps:
            worth.append(self._round(ranker.choose, ranker.tell))
            ranker.learn()
        return float(np.concatenate(worth).mean()) * world.STEPS

    def serve(self, choose: Choose) -> NDArray[np.float64]:
        """Return what each user is expected to bring over a whole session under a policy that does not learn."""
        total: NDArray[np.float64] = np.sum([self._round(choose) for _ in range(world.STEPS)], axis=0)
        return total

    def _round(self, choose: Choose, tell: Callable[[Step], None] | None = None) -> NDArray[np.float64]:
        """Let each user who is present consume one content; return what that was worth on average."""
        present = np.flatnonzero(self._begins <= self._rounds)
        self._rounds += 1
        states = [self.rhythm.state(self.visitors[at]) for at in present]
        offers = self.catalogue.offers(len(present), self.rng)
        chosen = [choose(state, offered) for state, offered in zip(states, offers, strict=True)]
        c, npe = self.catalogue.c[chosen], self._npe[present]
        brought = world.engagement(npe, c, self.rng)
        self._npe[present] = world.next_exposure(npe, c, self.rng)
        for at, state, content, reward in zip(present.tolist(), states, chosen, brought.tolist(), strict=True):
            visitor = self.visitors[at]
            visitor.consume(content)
            last = visitor.steps == world.STEPS
            if tell is not None:
                tell(Step(visitor.name, visitor.steps - 1, state, content, reward, last))
            if last:
                self._renew(at)
        return world.expected_engagement(npe, c)

    def _renew(self, at: int) -> None:
        self.visitors[at] = Visitor(f"u{self.served}")
        self._npe[at] = world.first_exposure(1, self.rng)[0]
        self.served += 1
