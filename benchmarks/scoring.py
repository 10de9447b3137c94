"""Scoring a request in process, against the same net in torch written plainly; and what a snapshot costs to load.

Plainly: no gradient and one thread, but the whole input of every pair in one concatenation, as the formulas of rl.md §2
read. Both forms must agree within 1e-4 before anything is timed.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Bench, interleave
from benchmarks.update_step import CONTENTS, filled_agent
from libs.rl.action_space import ActionSpace
from libs.rl.features import age_weights, encode_context, log_counts, popularity_centre
from libs.rl.networks import RankingNetwork
from libs.rl.scoring import Scorer
from libs.rl.slates import Exploration, Scores, plackett_luce, slate_scores
from libs.rl.snapshot import ID_SIZE, Snapshot
from libs.rl.transitions import State

CANDIDATES = (100, 1_000)
HISTORY = 30
SLATE = 6
AGREEMENT = 1e-4


def run(bench: Bench) -> None:
    """Record milliseconds of a request, ours and naive, and their ratio, for two sizes of catalogue and request."""
    torch.set_num_threads(1)
    for contents in CONTENTS[: 1 if bench.short else None]:
        agent = filled_agent(contents, bench.seed)
        snapshot = agent.snapshot()
        load = partial(Scorer, snapshot, agent.space)
        seconds = [_seconds(load) for _ in range(3 if bench.short else 9)]
        bench.record(f"{contents:,} contents", "load a snapshot", 1e3 * float(np.median(seconds)), "ms", len(seconds))
        scorer, naive = load(), Naive(snapshot, agent.space)
        for candidates in CANDIDATES:
            _compare(bench, scorer, naive, agent.space, candidates)
    _draw(bench)


def _compare(bench: Bench, scorer: Scorer, naive: "Naive", space: ActionSpace, candidates: int) -> None:
    rng = np.random.default_rng(bench.seed)
    request = drawn_request(space, candidates, rng)
    agree(scorer.score(*request), naive.score(*request))
    requests = [drawn_request(space, candidates, rng) for _ in range(32)]
    turns = {"ours": iter(requests * 100), "naive": iter(requests * 100)}
    variants: dict[str, Callable[[], float]] = {
        "ours": lambda: _seconds(lambda: scorer.score(*next(turns["ours"]))),
        "naive": lambda: _seconds(lambda: naive.score(*next(turns["naive"]))),
    }
    rounds = 50 if bench.short else 1_000
    interleave(variants, 20)
    compared = interleave(variants, rounds)
    label = f"{candidates:,} of {len(space) - 1:,} contents"
    for variant in variants:
        bench.record(f"{variant}, {label}", "score a request", 1e3 * compared.median(variant), "ms", rounds)
    bench.record(label, "naive / ours", compared.ratio("naive", to="ours"), "×", rounds)


def _draw(bench: Bench) -> None:
    rng, rounds = np.random.default_rng(bench.seed), 50 if bench.short else 1_000
    for candidates in CANDIDATES:
        advantage, choice = rng.normal(size=(2, candidates)).astype(np.float32)
        shown = Scores(advantage, choice, u=1.0, n=1.0, a_empty=0.0)

        def draw(shown: Scores = shown) -> None:
            plackett_luce(slate_scores(shown, "value", "multi", SLATE), Exploration(), SLATE, rng)

        seconds = [_seconds(draw) for _ in range(rounds)]
        bench.record(f"{candidates:,} candidates", "draw a slate", 1e3 * float(np.median(seconds)), "ms", rounds)


def _seconds(step: Callable[[], object]) -> float:
    """Return the processor time of one call: what else runs on the machine is not its business."""
    started = time.thread_time()
    step()
    return time.thread_time() - started


def drawn_request(
    space: ActionSpace, candidates: int, rng: np.random.Generator
) -> tuple[State, Int32[np.ndarray, "K"]]:
    """Return a user with a long history, and candidates from everywhere."""
    ids = space.ids[1:]
    state = State(
        history=tuple(rng.choice(ids, HISTORY).tolist()),
        history_age_s=tuple((3600 * rng.random(HISTORY)).tolist()),
        context={"device": "phone", "hour": "18"},
    )
    return state, space.index(rng.choice(ids, candidates, replace=False).tolist())


class Naive:
    """A snapshot as a torch module with its tables, and the scores of a request."""

    def __init__(self, snapshot: Snapshot, space: ActionSpace) -> None:
        self.space = space
        self.numbers = snapshot.context_numbers
        self.network = RankingNetwork(snapshot.vector_size)
        weights = {name: torch.from_numpy(array) for name, array in snapshot.weights.items()}
        self.network.load_state_dict(weights, strict=False)  # all but the rank bias, which is for training
        self.texts = torch.from_numpy(space.vectors * space.inverse_norm[:, None])
        self.vectors = torch.from_numpy(space.vectors)
        at = torch.from_numpy(space.index(snapshot.content_ids.tolist()).astype(np.int64))
        self.user_rows = torch.zeros(len(space), ID_SIZE).index_copy(0, at, torch.from_numpy(snapshot.user_rows))
        rows = np.column_stack([snapshot.content_rows, snapshot.biases])
        self.content_rows = torch.zeros(len(space), ID_SIZE + 1).index_copy(0, at, torch.from_numpy(rows))
        centre = popularity_centre(snapshot.consumptions)
        counts = torch.from_numpy(log_counts(snapshot.consumptions, centre))
        self.counts = torch.full((len(space),), -centre).index_copy(0, at, counts)

    @torch.inference_mode()
    def score(self, state: State, indices: Int32[np.ndarray, "K"]) -> Scores:
        """Return advantage and choice logit of each candidate and the values of the user."""
        network, (user, ids) = self.network, self.user(state)
        content = torch.from_numpy(indices)
        rows = self.content_rows[content]
        vectors, bias = rows[:, :ID_SIZE], rows[:, ID_SIZE]
        whole = torch.cat([self.texts[content], vectors, self.counts[content, None]], 1)
        both = torch.cat([user.expand(len(indices), -1), whole], 1)
        weight = torch.cat([network.user_in.weight, network.content_in.weight], 1)
        hidden = functional.relu(network.norm_1(functional.linear(both, weight, network.content_in.bias)))
        hidden = functional.relu(network.norm_2(network.middle(hidden)))
        heads = network.heads(hidden)
        advantage = heads[:, 0] + vectors @ (network.mix.weight.t() @ ids)
        choice = heads[:, 1] + vectors @ ids + bias
        tower = functional.relu(network.value_norm(network.value_in(user)))
        return Scores(advantage.numpy(), choice.numpy(), *network.value_out(tower).tolist())

    def user(self, state: State) -> tuple[Tensor, Tensor]:
        """Return the whole input of the user and its id part."""
        history = torch.from_numpy(self.space.index(state.history))
        weights = torch.from_numpy(age_weights(np.array(state.history_age_s)))
        text = functional.normalize((weights[:, None] * self.vectors[history]).sum(0), dim=0)
        ids = self.user_rows[history].sum(0) / len(history) ** 0.5
        return torch.cat([text, ids, torch.from_numpy(encode_context(state.context, self.numbers))]), ids


def agree(ours: Scores, naive: Scores) -> None:
    """Check that both forms say the same of a request.

    Raises
    ------
    AssertionError
        They differ: timing them against each other would mean nothing.
    """
    for name in Scores.__slots__:
        one, other = getattr(ours, name), getattr(naive, name)
        np.testing.assert_allclose(one, other, rtol=AGREEMENT, atol=AGREEMENT, err_msg=name)
