"""SlateQ's interest evolution, played by the product's own agent: settings only.

Interests are the context, topics are the contents, and what is earned is minutes watched. Choice is learned, where
SlateQ's published figures take it as known; neither the budget nor a document's quality is ever seen, only that some
sessions end sooner. A policy is judged greedily on users nobody has trained on.
"""

import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import slateq_world as world
from benchmarks.differences import differences
from benchmarks.harness import Bench
from benchmarks.slateq_play import GAP_S, INTERESTS, Crowd, agent_of, best_slates, slates
from libs.rl.agent import Agent
from libs.rl.rewards import RewardSpec
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration, Rule

SEEDS: Final = 3
PARTS: Final = 4
"""Of the training, for the learning curve."""

STEPS: Final = 320_000
USERS: Final = 50
"""At once: those whose session has not ended yet say nothing about ends, and should be few among the recent rows."""

SETTINGS: Final = AgentSettings(
    # The whole session counts: nothing but its end says what a document cost, and 0.998 halves at 350 requests.
    gamma=0.998,
    tau_s=GAP_S,
    consumption="single",
    context_numbers=INTERESTS,
    # A session is worth about 1, so that its end stays within the square part of Huber's loss: beyond it the mean
    # becomes a median, and what happens once in sixty requests is not in a median.
    reward=RewardSpec({"reward": 0.005}),
    capacity=200_000,
    replay_ratio=3.0,  # twice as many samples of half as many rows learned their noise
    lr_final=3e-5,
    lr_decay_updates=STEPS * 3 // 256,
    # Ends are rare and large: without decay the weights follow their noise, and users are told apart by interests.
    weight_decay=0.5,
    id_lr=1e-5,  # the vector says all there is to know of a document
    target_rate=0.05,  # values reach over sixty requests: at 0.005 they would take ten thousand updates
)
EXPLORATION: Final = Exploration()
PRICE: Final = 1.4  # what the session of the priced oracle returns for each minute of its budget

_JUDGED: Final = 1_000
_BASELINE: Final = 20_000
_JUDGE_SEED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Variant:
    """One agent to train: what serves while it learns, and by which rules it is judged."""

    name: str
    settings: AgentSettings
    serves: Rule
    judged: tuple[Rule, ...]
    seeds: int = SEEDS


def run(bench: Bench) -> None:
    """Record minutes watched in a session, for every ranker."""
    torch.set_num_threads(1)
    baselines(bench)
    bench.note(f"{STEPS:,} user steps of {USERS} users at once; {differences(SETTINGS)}; {EXPLORATION}")
    for variant in VARIANTS[: 1 if bench.short else None]:
        for seed in range(bench.seed, bench.seed + (1 if bench.short else variant.seeds)):
            train(bench, variant, seed, STEPS // (8 if bench.short else 1))


VARIANTS: Final = (
    Variant("moard", SETTINGS, "value", ("value", "a", "p")),
    Variant("moard", SETTINGS, "a", ("a",)),
    Variant("moard, γ = 0 twin", replace(SETTINGS, gamma=0.0), "value", ("value", "a"), seeds=1),
)


def baselines(bench: Bench) -> None:
    """Record policies that do not learn: two that the papers report, and one that knows everything but drift."""
    sessions = _BASELINE // (10 if bench.short else 1)
    policies = {"random": world.random_policy(bench.seed), "myopic by true v": world.myopic}
    for name, policy in policies.items():
        _record_returns(bench, name, world.returns(policy, sessions, bench.seed), bench.seed)
    _record_returns(bench, "oracle, budget priced", world.returns(world.priced(PRICE), sessions // 4, 0), bench.seed)


def train(bench: Bench, variant: Variant, seed: int, steps: int) -> None:
    """Train one agent; record its learning curve and what it is worth afterwards."""
    began_s, agent = time.process_time(), agent_of(variant.settings, seed)
    crowd = Crowd(agent, slates(agent, variant.serves, EXPLORATION, seed), USERS, seed)
    name = f"{variant.name}, rule {variant.serves}"
    for part in bench.progress(range(1, PARTS + 1), f"{name}, seed {seed}", PARTS):
        watched = crowd.train(steps // PARTS // USERS)
        bench.record(name, f"while learning, quarter {part}", watched.mean(), "minutes", len(watched), seed)
    bench.record(name, "processor time of training", time.process_time() - began_s, "s", steps, seed)
    for rule in variant.judged:
        served_by = name if rule == variant.serves else f"{variant.name}, rule {rule} of the same agent"
        _record_returns(bench, served_by, judge(agent, rule, _JUDGED // (4 if bench.short else 1), seed), seed)


def judge(agent: Agent, rule: Rule, sessions: int, seed: int) -> NDArray[np.float64]:
    """Return the minutes watched by users nobody has trained on, in whole sessions of the best slates."""
    return world.returns(best_slates(agent, rule), sessions, _JUDGE_SEED + seed)


def _record_returns(bench: Bench, variant: str, watched: NDArray[np.float64], seed: int) -> None:
    bench.record(variant, "return", watched.mean(), "minutes", len(watched), seed)
    bench.record(variant, "standard error", watched.std() / np.sqrt(len(watched)), "minutes", len(watched), seed)
