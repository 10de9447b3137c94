"""A small agent, and users for it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from libs.rl.agent import Agent, AgentSettings
from libs.rl.transitions import Closed, Consumed, Opened, Organic, State

SLATE = (1, 2, 3, 4)


def make_agent(contents: int = 8, **settings: Any) -> Agent:
    defaults: dict[str, Any] = {"learning_starts": 1, "capacity": 500, "batch_size": 32}
    agent, rng = Agent(AgentSettings(**(defaults | settings)), vector_size=8, seed=3), np.random.default_rng(0)
    for content_id in range(1, contents + 1):
        agent.put_content(content_id, rng.normal(size=8))
    return agent


def opened(name: str, history: Sequence[int] = (5,), slate: Sequence[int] = SLATE) -> Opened:
    return Opened(
        name, State(tuple(history), tuple(3600.0 * at for at in range(len(history)))), tuple(slate), tuple(slate)
    )


def click(name: str, content_id: int, event_id: str = "", terms: dict[str, float] | None = None) -> Consumed:
    return Consumed(name, content_id, terms or {"click": 1.0}, True, event_id or f"{name}-{content_id}", 1_000)


def play(agent: Agent, requests: int = 120, seed: int = 1) -> None:
    """Users who like odd contents, three requests each; a fifth of the consumption is organic."""
    rng = np.random.default_rng(seed)
    for at in range(requests):
        slate = rng.permutation(8)[:4] + 1
        agent.apply([opened(f"r{at}", (rng.permutation(8)[:3] + 1).tolist(), slate.tolist())])
        agent.apply([click(f"r{at}", int(c)) for c in slate if c % 2])
        agent.apply([Closed(f"r{at}") if at % 3 == 2 else Closed(f"r{at}", f"r{at + 1}", 30.0)])
        if at % 5 == 0:
            agent.apply([Organic(f"o{at}", State((1,), (60.0,)), 7, {"like": 1.0}, 2_000)])
