"""Choc/kale, where looking ahead is worth twice as much as pleasing now, in one dimension and in the product's shape.

The product's own agent, scorer and slates, settings only. One content is shown and consumed at each request, so that a
slate of one and ``consumption="single"`` say what happens; all value is long-term. What it reaches is stated beside
what is known: the optimum by dynamic programming, always kale, random, and the greediest policy (most chocolate).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import choc_kale_world as world
from benchmarks.choc_kale_classic import Classic
from benchmarks.choc_kale_play import Catalogue, Choose, Crowd, Ours, Rhythm, one_dimensional, product_shape
from benchmarks.differences import differences
from benchmarks.harness import Bench
from libs.rl.agent import Agent
from libs.rl.rewards import RewardSpec
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration

SEEDS: Final = 3
PARTS: Final = 4
"""Of the training, for the learning curve."""

GAP_S: Final = 3 * 3_600.0
"""Between two requests of a user: what was consumed weighs 0.9 an hour in the user's text vector, so 0.73 a step."""

REWARD: Final = RewardSpec({"reward": 0.02})
"""Engagement is 22 a step under kale, with a long tail: 0.44 keeps most of it within Huber's square part."""

CUT_REWARD: Final = replace(REWARD, high=1.0)
"""The tail cut at an engagement of 50: less noise beside the same differences, and by dynamic programming the best
policy stays the same."""

FRESH_USERS: Final = 300
"""Users who see the policy that was learned, greedily; their expected engagement is summed, so they suffice."""

_EVALUATION_SEED: Final = 1_000
_BASELINE_USERS: Final = 4_000


@dataclass(frozen=True, slots=True)
class Form:
    """One shape of the bench."""

    name: str
    settings: AgentSettings
    catalogue: Callable[[int], Catalogue]
    rhythm: Rhythm
    steps: int
    exploration: Exploration = Exploration(temperature=0.25, epsilon=0.05)  # noqa: RUF009 - frozen
    users: int = 64
    refresh: int = 8  # updates between two snapshots: about what a second holds where a learner is busy


# With γ = 0.95 the best policy brings 1288 (dynamic programming), with 0.98 no more, at values three times as large
# beside the same differences between contents. The target follows at once: what serves changes faster than it could.
# Nobody tells how far a session is: knowing it is worth 18 at most, and the value falls from 340 to 20 along a session,
# beside the 12 that one chocolate takes from it.
ONE_DIMENSIONAL: Final = Form(
    name="1-d",
    settings=AgentSettings(
        gamma=0.95,
        tau_s=GAP_S,
        consumption="single",
        reward=CUT_REWARD,
        batch_size=512,
        lr=2e-3,
        lr_final=3e-5,
        lr_decay_updates=900,
        recent_share=1.0,
        id_dropout=1.0,
        weight_decay=0.01,
        target_rate=0.5,
        capacity=100_000,
    ),
    catalogue=one_dimensional,
    rhythm=Rhythm(GAP_S),
    steps=40_000,
)

# Most of the 300 dimensions say nothing, and what a row brought is mostly noise: a net that sees each row twelve times
# learns it by heart (the twin brings 792 instead of 667, seed 0).
PRODUCT_SHAPE: Final = Form(
    name="product shape",
    settings=replace(ONE_DIMENSIONAL.settings, context_numbers=("step",), lr_decay_updates=600, replay_ratio=4.0),
    catalogue=product_shape,
    rhythm=Rhythm(GAP_S, tells_step=True),
    steps=80_000,
)

CLASSIC_STEPS: Final = 24_000


def run(bench: Bench) -> None:
    """Record what a user is expected to bring over a session, for every policy and ranker."""
    torch.set_num_threads(1)
    baselines(bench)
    for form in (ONE_DIMENSIONAL, PRODUCT_SHAPE):
        bench.note(f"{form.name}: {form.steps:,} user steps; {differences(form.settings)}; {form.exploration}")
        steps = form.steps // (8 if bench.short else 1)
        for seed in range(bench.seed, bench.seed + (1 if bench.short else SEEDS)):
            _train(bench, replace(form, steps=steps), f"{form.name}, moard", seed)
        twin = replace(form, settings=replace(form.settings, gamma=0.0), steps=steps)
        _train(bench, twin, f"{form.name}, γ = 0 twin", bench.seed)
    _classic(bench, bench.seed, CLASSIC_STEPS // (8 if bench.short else 1))


def baselines(bench: Bench) -> None:
    """Record what is known of the world: the optimum and three policies without learning."""
    bench.record("optimum", "return", world.optimum(), "engagement")
    policies = {"always kale": world.most_kale, "random": world.anything, "myopic": world.most_chocolate}
    for name, policy in policies.items():
        record_returns(
            bench, name, world.returns(policy, _BASELINE_USERS, np.random.default_rng(bench.seed)), bench.seed
        )


def record_returns(bench: Bench, variant: str, returns: NDArray[np.float64], seed: int) -> None:
    """Record mean and standard error over users."""
    bench.record(variant, "return", float(returns.mean()), "engagement", len(returns), seed)
    bench.record(
        variant, "standard error", float(returns.std() / np.sqrt(len(returns))), "engagement", len(returns), seed
    )


def _train(bench: Bench, form: Form, variant: str, seed: int) -> None:
    began_s, catalogue = time.process_time(), form.catalogue(seed)
    agent = Agent(form.settings, catalogue.vectors.shape[1], seed)
    ranker = Ours(agent, catalogue, GAP_S, form.exploration, form.refresh, seed)
    crowd = Crowd(catalogue, form.rhythm, form.users, seed)
    for part in bench.progress(range(1, PARTS + 1), f"{variant}, seed {seed}"):
        served = crowd.train(ranker, form.steps // PARTS)
        bench.record(variant, f"return while learning, quarter {part}", served, "engagement", form.steps // PARTS, seed)
    record_returns(bench, variant, greedy_returns(form, catalogue, ranker.greedy(), seed), seed)
    if form.settings.gamma > 0:
        by_choice = greedy_returns(form, catalogue, ranker.greedy("p"), seed)
        record_returns(bench, f'{form.name}, rule="p"', by_choice, seed)
    bench.record(variant, "processor time", time.process_time() - began_s, "s", form.steps, seed)


def greedy_returns(form: Form, catalogue: Catalogue, choose: Choose, seed: int) -> NDArray[np.float64]:
    """Return what users whom nobody has trained on bring under a policy that does not learn."""
    return Crowd(catalogue, form.rhythm, FRESH_USERS, _EVALUATION_SEED + seed, staggered=False).serve(choose)


def _classic(bench: Bench, seed: int, steps: int) -> None:
    variant, form = f"product shape, classic design, {steps:,} steps", PRODUCT_SHAPE
    began_s, catalogue = time.process_time(), form.catalogue(seed)
    classic = Classic(catalogue.vectors, form.settings.reward.weights["reward"], seed)
    served = Crowd(catalogue, form.rhythm, form.users, seed).train(classic, steps)
    bench.record(variant, "return while learning", served, "engagement", steps, seed)
    record_returns(bench, variant, greedy_returns(form, catalogue, classic.greedy(), seed), seed)
    bench.record(variant, "processor time", time.process_time() - began_s, "s", steps, seed)
