"""The product's own agent, scorer and slates, played through a stream of MovieLens in one process.

What the running system adds (HTTP, Kafka, a second between snapshots) is left out; everything that learns or ranks is
the same code.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from examples.movielens.dataset import Movie
from examples.movielens.protocol import SLATE, Request, Turn
from libs.rl.agent import Agent
from libs.rl.features import HISTORY
from libs.rl.scoring import Scorer
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration, Rule, plackett_luce, slate_scores
from libs.rl.transitions import Closed, Consumed, Opened, Organic, State

SETTINGS = AgentSettings(
    capacity=100_000,
    learning_starts=100,  # there are 940 users to know
    tau_s=30.0,  # the median gap of a session
    replay_ratio=5.0,  # 4 starts more slowly, 10 overfits
    history_dropout=0.5,  # as much as autoencoders for ranking are trained with (Liang et al., WWW 2018)
    organic_weight=1.0,  # with 0.3 the first fifth is weaker
    compared=1.0,  # what is clicked says as much as what is liked
)
EXPLORATION = Exploration(temperature=0.05, epsilon=0.0)  # a uniform slate costs 1.3 clicks, and nobody evaluates here
# What is drawn uniformly is told apart by taste, not by popularity: as many updates, of four times the rows and of all
# ids, show more of it; so do steps that get smaller before the stream ends, and a value that looks less far ahead.
UNIFORM_SETTINGS = replace(
    SETTINGS, batch_size=1_024, replay_ratio=20.0, id_dropout=0.0, gamma=0.5, lr_final=2e-4, lr_decay_updates=800
)
UNIFORM_EXPLORATION = replace(EXPLORATION, temperature=0.01)
HORIZON_S = 1_800
REFRESH_UPDATES = 4  # updates between snapshots: about what a second holds in the running demo
VECTOR_SIZE = 64


@dataclass(slots=True)
class _Visitor:
    """What is known of one user: newest consumed content first, and the request that is still open."""

    history: list[int] = field(default_factory=list)
    times_s: list[int] = field(default_factory=list)
    open_row: str | None = None
    opened_s: int = 0


class Play:
    """One agent that learns while the stream is played to it."""

    def __init__(
        self, agent: Agent, rule: Rule = "value", exploration: Exploration = EXPLORATION, seed: int = 0
    ) -> None:
        self.agent = agent
        self.rule: Rule = rule
        self.exploration = exploration
        self.rng = np.random.default_rng(seed)
        self.scorer: Scorer | None = None
        self.scored_updates = 0
        self.visitors: dict[int, _Visitor] = {}
        self.clicked: dict[int, list[int]] = {}

    def put_contents(self, texts: Mapping[int, NDArray[np.float32]]) -> None:
        """Tell the agent all contents with their text vectors, the way the catalogue would."""
        for content_id, vector in texts.items():
            self.agent.put_content(content_id, vector)

    def through(self, stream: Iterable[Turn]) -> NDArray[np.float64]:
        """Play the stream; return the clicks of each request."""
        clicks = []
        for turn in stream:
            visitor = self.visitors.setdefault(turn.user_id, _Visitor())
            if turn.opens is not None:
                clicks.append(self._offer(turn.opens, turn.timestamp_s, visitor))
            if turn.content_id not in self.clicked[turn.request_number]:
                self._like(turn, visitor)
            self._learn()
        return np.array(clicks, np.float64)

    def _offer(self, request: Request, now_s: int, visitor: _Visitor) -> int:
        state, row = _state(visitor, now_s), f"r{request.number}"
        slate = self._slate(state, request.candidates)
        self.agent.apply([Opened(row, state, slate, request.candidates)])
        if visitor.open_row is not None:
            gap_s = now_s - visitor.opened_s
            self.agent.apply([Closed(visitor.open_row, row if gap_s <= HORIZON_S else None, float(gap_s))])
        visitor.open_row, visitor.opened_s = row, now_s
        self.clicked[request.number] = request.clicks(slate)
        for content_id in self.clicked[request.number]:
            self.agent.apply([Consumed(row, content_id, {"click": 1.0}, True, f"{row}-{content_id}", 0)])
            _visit(visitor, content_id, now_s)
        return len(self.clicked[request.number])

    def _slate(self, state: State, candidates: Sequence[int]) -> tuple[int, ...]:
        scores = np.zeros(len(candidates), np.float32)
        if self.scorer is not None:
            said = self.scorer.score(state, self.agent.space.index(candidates))
            scores = slate_scores(said, self.rule, self.agent.settings.consumption, SLATE)
        drawn = plackett_luce(scores, self.exploration, SLATE, self.rng)
        return tuple(candidates[at] for at in drawn.positions)

    def _like(self, turn: Turn, visitor: _Visitor) -> None:
        state = _state(visitor, turn.timestamp_s)
        row = f"o{turn.user_id}-{turn.content_id}"
        self.agent.apply([Organic(row, state, turn.content_id, {"like": 1.0}, 0)])
        _visit(visitor, turn.content_id, turn.timestamp_s)

    def _learn(self) -> None:
        while batch := self.agent.due():
            self.agent.update(batch)
            if self.scorer is None or self.agent.updates >= self.scored_updates + REFRESH_UPDATES:
                self.scorer = Scorer(self.agent.snapshot(), self.agent.space)
                self.scored_updates = self.agent.updates


def text_vectors(contents: Iterable[Movie]) -> dict[int, NDArray[np.float32]]:
    """Return a text vector of each content: a bag of the words of its title, year and genres."""
    return {movie.content_id: text_vector(f"{movie.title} {movie.description}".split()) for movie in contents}


def text_vector(words: Sequence[str]) -> NDArray[np.float32]:
    """Return a bag of words as a dense vector: each word a fixed random direction."""
    directions = [np.random.default_rng(list(word.encode())).normal(size=VECTOR_SIZE) for word in words]
    return np.array(np.sum(directions, axis=0), np.float32)


def _state(visitor: _Visitor, now_s: int) -> State:
    ages = tuple(float(now_s - then_s) for then_s in visitor.times_s[:HISTORY])
    return State(tuple(visitor.history[:HISTORY]), ages)


def _visit(visitor: _Visitor, content_id: int, now_s: int) -> None:
    visitor.history.insert(0, content_id)
    visitor.times_s.insert(0, now_s)
