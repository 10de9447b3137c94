"""The product's own agent in front of SlateQ's users: what it is told, how it is asked, when it learns."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float64, Int64

from benchmarks.slateq_world import CANDIDATES, NOTHING, SLATE, TOPICS, Outcome, Policy, Sessions
from libs.rl.agent import Agent
from libs.rl.features import CONTEXT, log_counts
from libs.rl.gradients import PairIndex
from libs.rl.networks import A_EMPTY, N, U
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration, Rule, Scores, plackett_luce, slate_scores
from libs.rl.snapshot import ID_SIZE
from libs.rl.transitions import Closed, Consumed, Opened, RowChange, State

INTERESTS: Final = tuple(f"interest_{topic}" for topic in range(TOPICS))
"""The user's interests, as the client sends them: declared context numbers."""

GAP_S: Final = 60.0
_GREEDY: Final = Exploration(greedy=True)


def content_ids(topics: Int64[np.ndarray, "U K"]) -> Int64[np.ndarray, "U K"]:
    """Name each candidate.

    Documents are fresh, and those of a topic are alike: a client has nothing to tell them apart by, so ids are reused.
    The second document of a topic in a request is the topic's second content, for a slate holds distinct contents.

    >>> content_ids(np.array([[3, 0, 3]])).tolist()
    [[31, 1, 32]]
    """
    same = topics[:, :, None] == topics[:, None, :]
    copy = np.tril(same, -1).sum(axis=2)
    return np.asarray(1 + topics * CANDIDATES + copy, np.int64)


def agent_of(settings: AgentSettings, seed: int) -> Agent:
    """Return an agent that knows the catalogue: ten contents of each topic, all with the topic's one-hot vector."""
    agent = Agent(settings, TOPICS, seed)
    vectors = np.eye(TOPICS, dtype=np.float32)
    for content_id in range(1, TOPICS * CANDIDATES + 1):
        agent.put_content(content_id, vectors[(content_id - 1) // CANDIDATES])
    return agent


def score_many(agent: Agent, interests: Float64[np.ndarray, "U T"], contents: Int64[np.ndarray, "U K"]) -> list[Scores]:
    """Return what the agent's network says of many requests at once; ``Scorer`` says the same of each."""
    size = len(agent.space)
    agent.tables.grow(size)
    agent.popularity.grow(size)
    context = torch.zeros(len(interests), CONTEXT)
    context[:, :TOPICS] = torch.from_numpy(interests)
    nobody = torch.zeros(len(interests), ID_SIZE)  # no history: all there is to know of a user is in the context
    counts = torch.from_numpy(log_counts(agent.popularity.consumptions[:size], agent.popularity.centre))
    at = torch.from_numpy(agent.space.index(contents.ravel().tolist()).astype(np.int64))
    row = torch.arange(len(interests)).repeat_interleave(contents.shape[1])
    pairs = PairIndex(row, at, len(interests), size)
    with torch.no_grad():
        ids = agent.tables.content[:size]
        texts = torch.from_numpy(agent.space.vectors * agent.space.inverse_norm[:, None])
        of_half, of_count = agent.network.content_weights()
        user, tower = agent.network.user_half(torch.zeros(len(interests), TOPICS), nobody, context)
        half = agent.network.content_half(texts, ids[:, :ID_SIZE], of_half)
        joint, *_ = agent.network.pairs(user, half, counts[at], of_count, pairs)
        heads = joint + agent.network.id_terms(nobody, ids, pairs)
        values = agent.network.user_values(tower)[:, [U, N, A_EMPTY]].tolist()
    grid = heads.view(2, *contents.shape).numpy()
    return [Scores(a, choice, *value) for a, choice, value in zip(*grid, values, strict=True)]


def slates(agent: Agent, rule: Rule, exploration: Exploration, seed: int) -> Policy:
    """Return the policy that serves the agent's slates; it goes on learning with the agent."""
    rng = np.random.default_rng([seed, 4])

    def shown(interests: np.ndarray, topics: np.ndarray) -> np.ndarray:
        drawn = [
            plackett_luce(slate_scores(scores, rule, agent.settings.consumption, SLATE), exploration, SLATE, rng)
            for scores in score_many(agent, interests, content_ids(topics))
        ]
        return np.stack([slate.positions for slate in drawn])

    return shown


def best_slates(agent: Agent, rule: Rule) -> Policy:
    """Return the policy that never explores."""
    return slates(agent, rule, _GREEDY, seed=0)


class Crowd:
    """Users in front of one agent, each with one request a round; who leaves is followed by somebody new."""

    def __init__(self, agent: Agent, policy: Policy, users: int, seed: int) -> None:
        self.agent = agent
        self.policy = policy
        self.world = Sessions(users, np.random.default_rng([seed, 3]))
        self.watched = np.zeros(users)
        self._open: list[str | None] = [None] * users
        self._rows = 0

    def train(self, rounds: int) -> Float64[np.ndarray, "sessions"]:
        """Serve and learn for so many rounds; return the minutes watched in the sessions that ended."""
        finished = [self._round() for _ in range(rounds)]
        return np.concatenate([np.zeros(0), *finished])

    def _round(self) -> np.ndarray:
        interests, topics = self.world.interests.copy(), self.world.candidates()
        shown = self.policy(interests, topics)
        outcome = self.world.step(np.take_along_axis(topics, shown, axis=1))
        slate = np.take_along_axis(content_ids(topics), shown, axis=1)
        self.agent.apply(self._told(interests, slate, outcome))
        while batch := self.agent.due():
            self.agent.update(batch)
        self.watched += outcome.minutes
        finished: np.ndarray = self.watched[outcome.ended]
        self.watched[outcome.ended] = 0
        self.world.renew(outcome.ended)
        return finished

    def _told(self, interests: np.ndarray, slate: np.ndarray, outcome: Outcome) -> list[RowChange]:
        changes: list[RowChange] = []
        requests = zip(interests.tolist(), slate.tolist(), outcome.position.tolist(), strict=True)
        for user, (known, contents, position) in enumerate(requests):
            row, before = f"r{self._rows}", self._open[user]
            self._rows += 1
            changes.append(Opened(row, State(context=dict(zip(INTERESTS, known, strict=True))), tuple(contents)))
            if before is not None:
                changes.append(Closed(before, row, GAP_S))
            if position != NOTHING:
                terms = {"click": 1.0, "reward": float(outcome.minutes[user])}
                changes.append(Consumed(row, contents[position], terms, True, "", 0))
            if outcome.ended[user]:
                changes.append(Closed(row))
            self._open[user] = None if outcome.ended[user] else row
        return changes
