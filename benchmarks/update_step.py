"""One update at B = 256 on one thread, against the same net and maths written plainly.

Plainly: histories gathered whole, one concatenated input per (user, content) pair, both id tables dense parameters
under torch's AdamW. Both forms see the same batch and the same draws, and must agree on every part of the loss and on
the weights after a step, within 1e-4, before anything is timed.

The forms take turns of ten updates, as a learner takes them, one after another; and of one, after which the other's
arrays are what the caches hold.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import plain_losses
from benchmarks.harness import Bench, interleave
from libs.rl.agent import Agent
from libs.rl.batch import Batch, Draws, Users, draw, gather
from libs.rl.networks import A_EMPTY, VALUE_WEIGHTS, N, U, soft_update
from libs.rl.objective import loss_parts
from libs.rl.sampling import sample
from libs.rl.settings import AgentSettings
from libs.rl.snapshot import HIDDEN, ID_SIZE
from libs.rl.transitions import Closed, Consumed, Opened, Organic, State
from libs.rl.update import continuation_values, forward
from services.learner.process import prepare_interpreter

VECTOR_SIZE = 300
ROWS = 4_000
CONTENTS = (5_000, 50_000)
TURNS = {"one after another": 10, "in turns": 1}  # updates of one form before the other's
AGREEMENT = 1e-4
KINKS = 1e-3  # share of a gradient's elements


def run(bench: Bench) -> None:
    """Record processor time of an update, ours and naive, and their ratio, for two sizes of the catalogue."""
    prepare_interpreter()
    for contents in CONTENTS[: 1 if bench.short else None]:
        agent = filled_agent(contents, bench.seed)
        naive = Naive(agent)
        agree(agent, naive)
        for kind, turn in TURNS.items():
            rounds = (20 if bench.short else 100) // turn
            variants = {"ours": _timed(agent.update, turn), "naive": _timed(naive.update, turn)}
            interleave(variants, 1)
            compared = interleave(variants, rounds)
            for variant in compared.samples:
                label = f"{variant}, {contents:,} contents, {kind}"
                bench.record(label, "update, B = 256", 1e3 * compared.median(variant), "ms", rounds)
            ratio = compared.ratio("naive", to="ours")
            bench.record(f"{contents:,} contents, {kind}", "naive / ours", ratio, "×", rounds)


def _timed(step: Callable[[], object], turn: int) -> Callable[[], float]:
    def measure() -> float:
        started = time.thread_time()  # what else runs on the machine is not its business
        for _ in range(turn):
            step()
        return (time.thread_time() - started) / turn

    return measure


def filled_agent(contents: int, seed: int) -> Agent:
    """Return an agent with rows of users who have long histories, slates of six, and a quarter of organic rows."""
    rng = np.random.default_rng(seed)
    agent = Agent(AgentSettings(capacity=2 * ROWS), VECTOR_SIZE, seed)
    for content_id in range(contents):
        agent.put_content(content_id, rng.normal(size=VECTOR_SIZE).astype(np.float32))
    popular = rng.zipf(1.3, size=20 * ROWS) % contents
    for row in range(ROWS):
        state = State(tuple(rng.choice(popular, 30).tolist()), tuple(np.arange(30.0).tolist()))
        slate = tuple(dict.fromkeys(rng.choice(popular, 24).tolist()))[:6]
        agent.apply([Opened(f"r{row}", state, slate), Consumed(f"r{row}", slate[0], {"click": 1.0}, True, "", 0)])
        agent.apply([Closed(f"r{row - 1}", f"r{row}" if row % 4 else None, 30.0)])
        if row % 3 == 0:
            agent.apply([Organic(f"o{row}", state, int(rng.choice(popular)), {"like": 1.0}, 0)])
    for _ in range(3):
        agent.update()
    return agent


@dataclass(slots=True)
class _Outputs:
    advantage: Tensor
    choice: Tensor
    values: Tensor
    organic: Tensor


class Naive:
    """The agent's network and tables in a plain module, and an update of it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.network = type(agent.network)(VECTOR_SIZE)
        self.network.load_state_dict(agent.network.state_dict())
        size = len(agent.space)
        self.user_table = nn.Parameter(agent.tables.user[:size].clone())
        self.content_table = nn.Parameter(agent.tables.content[:size].clone())
        self.texts = torch.from_numpy(agent.space.vectors * agent.space.inverse_norm[:, None])
        self.vectors = torch.from_numpy(agent.space.vectors)
        self.target = {name: tensor.clone() for name, tensor in agent.target.items()}
        decay = agent.settings.weight_decay
        self.optimiser = torch.optim.AdamW(self.network.parameters(), agent.settings.lr, weight_decay=decay)
        tables = [self.user_table, self.content_table]
        self.table_optimiser = torch.optim.AdamW(tables, agent.settings.id_lr, weight_decay=decay)

    def update(self) -> None:
        """Take one step on a batch from the agent's buffer."""
        agent = self.agent
        slots = sample(agent.replay, agent.settings.batch_size, agent.rng)
        batch = gather(agent.replay, slots, agent.settings.reward)
        draws = draw(batch, agent.popularity.consumptions, agent.settings.id_dropout, agent.rng)
        self.step(self.loss(batch, draws)["total"])

    def step(self, loss: Tensor) -> None:
        """Move all weights against the gradient of a loss."""
        self.optimiser.zero_grad()
        self.table_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        moved = [*self.network.parameters(), self.user_table, self.content_table]
        torch.nn.utils.clip_grad_norm_(moved, self.agent.settings.clip_norm)
        self.optimiser.step()
        self.table_optimiser.step()
        online = dict(self.network.named_parameters())
        soft_update(self.target, {name: online[name] for name in VALUE_WEIGHTS}, self.agent.settings.target_rate)

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Return the parts of the loss by name."""
        user, ids = self.users(batch.users, torch.from_numpy(draws.keep_user)[:, None])
        outputs = self.outputs(batch, draws, user, ids)
        continuation = torch.zeros(len(batch.slots))
        with torch.no_grad():
            ahead, _ = self.users(batch.next_users, torch.ones(len(batch.continued), 1))
            settings = self.agent.settings
            discount = settings.gamma ** torch.clamp(torch.from_numpy(batch.gap_s) / settings.tau_s, 1, 10)
            continuation[torch.from_numpy(batch.continued)] = discount * self.tower(self.target, ahead)[:, U]
        return self.parts(outputs, continuation, batch, draws)

    def users(self, users: Users, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the user inputs and their id part."""
        history = torch.from_numpy(users.history.astype(np.int64))
        text = (self.vectors[history] * torch.from_numpy(users.weights)[:, :, None]).sum(1)
        known = (history > 0).float()
        ids = (self.user_table[history] * known[:, :, None]).sum(1) / known.sum(1, keepdim=True).clamp(min=1).sqrt()
        ids = ids * keep
        return torch.cat([functional.normalize(text, dim=1), ids, torch.from_numpy(users.context)], 1), ids

    def heads(self, user: Tensor, ids: Tensor, content: Tensor, log_count: Tensor, keep: Tensor) -> Tensor:
        """Return A and ℓ of ``content`` [B, N] for each row's user, every pair from its whole input."""
        net = self.network
        rows = self.content_table[content] * keep[:, None, None]
        centre = -self.agent.popularity.centre
        count = torch.where(keep[:, None] > 0, log_count, centre)
        whole = torch.cat([self.texts[content], rows[..., :ID_SIZE], count[..., None]], 2)
        both = torch.cat([user[:, None].expand(-1, content.shape[1], -1), whole], 2)
        weight = torch.cat([net.user_in.weight, net.content_in.weight], 1)
        hidden = functional.relu(net.norm_1(functional.linear(both, weight, net.content_in.bias)))
        hidden = functional.relu(net.norm_2(net.middle(hidden)))
        advantage = ((ids @ net.mix.weight)[:, None] * rows[..., :ID_SIZE]).sum(2)
        choice = (ids[:, None] * rows[..., :ID_SIZE]).sum(2) + rows[..., ID_SIZE]
        heads: Tensor = net.heads(hidden) + torch.stack([advantage, choice], 2)
        return heads

    def outputs(self, batch: Batch, draws: Draws, user: Tensor, ids: Tensor) -> _Outputs:
        """Return what the network says of the slates and of the organic rows' alternatives."""
        slate, keep = torch.from_numpy(batch.slate.astype(np.int64)), torch.from_numpy(draws.keep_content).float()
        heads = self.heads(user, ids, slate, torch.from_numpy(batch.log_count), keep)
        organic = torch.from_numpy(draws.rows[:, 0])
        others = torch.from_numpy(batch.slate[draws.rows, draws.positions].astype(np.int64))
        counts = torch.from_numpy(batch.log_count[draws.rows, draws.positions])
        alone = self.heads(user[organic], ids[organic], others, counts, keep[organic])
        choice = heads[..., 1] + self.network.rank_bias[: slate.shape[1]]
        values = self.tower(dict(self.network.named_parameters()), user)
        return _Outputs(heads[..., 0], choice, values, alone[..., 1])

    def tower(self, weights: Mapping[str, Tensor], user: Tensor) -> Tensor:
        """Return U, N and A⊥ of each user."""
        first = functional.linear(user, weights["value_in.weight"], weights["value_in.bias"])
        gain, bias = weights["value_norm.weight"], weights["value_norm.bias"]
        hidden = functional.relu(functional.layer_norm(first, (HIDDEN,), gain, bias))
        return functional.linear(hidden, weights["value_out.weight"], weights["value_out.bias"])

    def parts(self, outputs: _Outputs, continuation: Tensor, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Return the parts of the loss, rl.md §4 line by line."""
        chosen, settled = torch.from_numpy(batch.chosen), torch.from_numpy(batch.settled)
        shown, organic = torch.from_numpy(batch.slate > 0), torch.from_numpy(batch.organic)
        rewards, values = torch.from_numpy(batch.rewards), outputs.values
        above = continuation - values[:, N].detach()
        consumed, empty = chosen & settled[:, None], settled & ~chosen.any(1)
        closed = plain_losses.bernoulli_loss(outputs.choice, chosen, shown)
        opened = plain_losses.slate_softmax_loss(outputs.choice, chosen, shown)
        choice = torch.where(torch.from_numpy(batch.closed), closed, opened)[~organic]
        log_sampling, usable = torch.from_numpy(draws.log_sampling), torch.from_numpy(draws.usable)
        share = self.network.popularity_share
        parts = {
            "u": functional.smooth_l1_loss(values[settled, U], (rewards.sum(1) + continuation)[settled]),
            "n": functional.smooth_l1_loss(values[settled, N], continuation[settled]),
            "a": functional.smooth_l1_loss(outputs.advantage[consumed], (rewards + above[:, None])[consumed]),
            "a_empty": functional.smooth_l1_loss(values[empty, A_EMPTY], above[empty])
            if empty.any()
            else values.sum() * 0,
            "choice": choice.mean(),
            "organic": plain_losses.in_batch_softmax_loss(outputs.organic, share * log_sampling, usable).mean(),
        }
        total = sum(parts[name] for name in ("u", "n", "a", "a_empty", "choice")) + 0.3 * parts["organic"]
        return {"total": torch.as_tensor(total), **parts}


def agree(agent: Agent, naive: Naive) -> None:
    """Check that both forms make the same loss and the same gradients of one batch.

    Raises
    ------
    AssertionError
        They differ: timing them against each other would mean nothing.
    """
    slots = sample(agent.replay, agent.settings.batch_size, np.random.default_rng(0))
    batch = gather(agent.replay, slots, agent.settings.reward)
    draws = draw(batch, agent.popularity.consumptions, agent.settings.id_dropout, np.random.default_rng(1))
    outputs = forward(agent.network, agent.tables, agent.space, batch, draws, agent.popularity.centre)
    continuation = continuation_values(agent.target, agent.tables, agent.space, batch, agent.settings)
    ours, theirs = loss_parts(outputs, continuation, batch, draws, agent.settings), naive.loss(batch, draws)
    for name, part in theirs.items():
        _same(name, ours[name], part)
    agent.network.zero_grad()
    ours["total"].backward()  # type: ignore[no-untyped-call]
    theirs["total"].backward()  # type: ignore[no-untyped-call]
    for (name, one), other in zip(agent.network.named_parameters(), naive.network.parameters(), strict=True):
        _nearly_same(name, _grad(one), _grad(other))
    leaves = outputs.leaves
    _nearly_same("history rows", _grad(leaves.user), _grad(naive.user_table)[leaves.histories])
    _nearly_same("content rows", _grad(leaves.content), _grad(naive.content_table)[leaves.contents])
    for leaf, table in ((leaves.user, naive.user_table), (leaves.content, naive.content_table)):
        whole = _grad(table).abs().sum()
        _same("rows nobody touched", _grad(leaf).abs().sum() / whole, whole / whole)


def _same(name: str, ours: Tensor | None, theirs: Tensor | None) -> None:
    def message(text: str) -> str:
        return f"{name}: {text}"

    torch.testing.assert_close(ours, theirs, rtol=AGREEMENT, atol=AGREEMENT, msg=message)


def _nearly_same(name: str, ours: Tensor, theirs: Tensor) -> None:
    # A unit within rounding of its kink falls on either side of it: that moves a few elements, and none by much.
    difference = (ours - theirs).abs()
    assert (difference > AGREEMENT).float().mean() <= KINKS, f"{name}: differs by {difference.max():.2g}"
    assert difference.max() <= 10 * AGREEMENT, f"{name}: differs by {difference.max():.2g}"


def _grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad
