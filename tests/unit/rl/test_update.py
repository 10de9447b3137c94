"""The bugs of rl.md §1 that train and never alarm, each with the test that catches it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from libs.rl.action_space import ActionSpace
from libs.rl.batch import Batch, Users, without_chance
from libs.rl.id_tables import IdTables
from libs.rl.networks import A_EMPTY, N, RankingNetwork, U
from libs.rl.objective import loss_parts
from libs.rl.settings import AgentSettings
from libs.rl.slates import Consumption
from libs.rl.update import Outputs, continuation_values, forward

Lists: TypeAlias = Sequence[Sequence[int]]
CONTENTS = 12


@pytest.fixture
def space() -> ActionSpace:
    space, rng = ActionSpace(8), np.random.default_rng(1)
    for content_id in range(CONTENTS):
        space.put(content_id + 100, rng.normal(size=8))
    return space


@pytest.fixture
def tables() -> IdTables:
    tables = IdTables(0.01, 0.0, seed=0)
    tables.grow(CONTENTS + 1)
    tables.content = torch.randn(tables.content.shape, generator=torch.Generator().manual_seed(5))
    return tables


@pytest.fixture
def network() -> RankingNetwork:
    return randomised(RankingNetwork(8))


def randomised(network: RankingNetwork) -> RankingNetwork:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def users(*histories: Sequence[int]) -> Users:
    history = np.zeros((len(histories), 30), np.int32)
    for row, contents in enumerate(histories):
        history[row, : len(contents)] = contents
    weights = np.where(history > 0, np.float32(0.5), np.float32(0))
    return Users(history, weights, np.zeros((len(histories), 64), np.float32))


def batch_of(
    histories: Lists,
    slates: Lists,
    chosen: dict[int, list[int]] | None = None,
    next_histories: Lists = (),
    **changes: Any,
) -> Batch:
    rows, width = len(slates), max(map(len, slates))
    slate, mask = np.zeros((rows, width), np.int32), np.zeros((rows, width), np.bool_)
    for row, contents in enumerate(slates):
        slate[row, : len(contents)] = contents
        mask[row, list((chosen or {}).get(row, ()))] = True
    batch = Batch(
        slots=np.arange(rows),
        users=users(*histories),
        slate=slate,
        log_count=(slate / 10).astype(np.float32),
        chosen=mask,
        rewards=mask.astype(np.float32),
        closed=np.ones(rows, np.bool_),
        organic=np.zeros(rows, np.bool_),
        settled=np.ones(rows, np.bool_),
        continued=np.arange(len(next_histories)),
        gap_s=np.full(len(next_histories), 60, np.float32),
        next_users=users(*next_histories),
    )
    return replace(batch, **changes)


def gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def outputs_of(network: RankingNetwork, tables: IdTables, space: ActionSpace, batch: Batch) -> Outputs:
    return forward(network, tables, space, batch, without_chance(batch), centre=0.5)


# --- advantage mean over the batch; centring over one content -------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_q_is_the_same_alone_permuted_beside_strangers_and_padded(
    network: RankingNetwork, tables: IdTables, space: ActionSpace, dtype: torch.dtype, tolerance: float
) -> None:
    network, tables.user, tables.content = network.to(dtype), tables.user.to(dtype), tables.content.to(dtype)

    def q(histories: Lists, slates: Lists, row: int, position: int) -> Tensor:
        outputs = outputs_of(network, tables, space, batch_of(histories, slates))
        heads = (
            outputs.advantage[row, position] + outputs.values[row, N],
            outputs.choice[row, position] - network.rank_bias[position],
        )
        return torch.stack([*heads, *outputs.values[row]])

    alone = q([[3, 4]], [[5]], 0, 0)
    variants = [
        q([[3, 4]], [[5, 6, 7]], 0, 0),
        q([[3, 4]], [[7, 6, 5]], 0, 2),
        q([[1], [3, 4], []], [[9, 10], [2, 5], [11, 12]], 1, 1),
        q([[1], [3, 4]], [[9, 10, 11, 12], [5]], 1, 0),
    ]
    for variant in variants:
        torch.testing.assert_close(variant, alone, rtol=tolerance, atol=tolerance)


def test_one_logged_content_gives_the_advantage_head_a_gradient(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3]], [[5]], {0: [0]})
    outputs = outputs_of(network, tables, space, batch)
    loss_parts(outputs, torch.zeros(1), batch, without_chance(batch), AgentSettings())["a"].backward()  # type: ignore[no-untyped-call]
    assert gradient(network.heads.weight)[0].abs().sum() > 0
    assert gradient(network.heads.bias)[0].abs() > 0
    assert gradient(network.heads.weight)[1].abs().sum() == 0


# --- target on the same state; always done ----------------------------------------------------------------------


def continuation(
    network: RankingNetwork, tables: IdTables, space: ActionSpace, batch: Batch, gamma: float = 0.5
) -> Tensor:
    return continuation_values(network.value_weights(), tables, space, batch, AgentSettings(gamma=gamma, tau_s=60.0))


def test_the_target_reads_the_next_state_and_not_this_one(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    slates = [[5, 6]]
    here = continuation(network, tables, space, batch_of([[3]], slates, next_histories=[[4]]))
    moved_here = continuation(network, tables, space, batch_of([[7, 8]], slates, next_histories=[[4]]))
    moved_next = continuation(network, tables, space, batch_of([[3]], slates, next_histories=[[7, 8]]))
    assert torch.equal(here, moved_here)
    assert not torch.isclose(here, moved_next)


def test_the_target_is_discounted_value_where_the_story_goes_on_and_zero_where_it_ends(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3], [3]], [[5], [5]], next_histories=[[4]])
    next_batch = batch_of([[4]], [[5]])
    ahead = outputs_of(network, tables, space, next_batch).values[0, U]
    values = continuation(network, tables, space, batch)
    assert values[0].item() == pytest.approx(0.5 * ahead.item(), rel=1e-5)
    assert values[1] == 0
    assert continuation(network, tables, space, batch, gamma=0.0)[0] == 0


def test_an_unknown_continuation_trains_no_value(network: RankingNetwork, tables: IdTables, space: ActionSpace) -> None:
    batch = batch_of([[3]], [[5, 6]], {0: [1]}, settled=np.zeros(1, np.bool_))
    parts = loss_parts(
        outputs_of(network, tables, space, batch), torch.zeros(1), batch, without_chance(batch), AgentSettings()
    )
    assert [parts[name].item() for name in ("u", "n", "a", "a_empty")] == [0, 0, 0, 0]
    assert parts["choice"] > 0


# --- the heads' targets, by hand ---------------------------------------------------------------------------------


def test_every_head_has_the_target_of_the_specification(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3], [4]], [[5, 6], [7, 8]], {0: [0, 1]}, rewards=np.array([[1, 2], [0, -1]], np.float32))
    outputs = outputs_of(network, tables, space, batch)
    ahead = torch.tensor([0.7, 0.2])
    parts = loss_parts(outputs, ahead, batch, without_chance(batch), AgentSettings())
    values, advantage = outputs.values.detach().numpy(), outputs.advantage.detach().numpy()

    def huber(x: NDArray[Any]) -> NDArray[Any]:
        return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)

    assert parts["u"].item() == pytest.approx(np.mean(huber(values[:, U] - [3.7, -0.8])), rel=1e-5)
    assert parts["n"].item() == pytest.approx(np.mean(huber(values[:, N] - [0.7, 0.2])), rel=1e-5)
    a = huber(advantage[0] - (np.array([1, 2]) + 0.7 - values[0, N]))
    assert parts["a"].item() == pytest.approx(np.mean(a), rel=1e-5)
    assert parts["a_empty"].item() == pytest.approx(huber(values[1, A_EMPTY] - (0.2 - values[1, N])), rel=1e-5)


def test_the_advantage_targets_hold_the_baseline_still(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3], [4]], [[5], [6]], {0: [0]})
    outputs = outputs_of(network, tables, space, batch)
    parts = loss_parts(outputs, torch.ones(2), batch, without_chance(batch), AgentSettings())
    (parts["a"] + parts["a_empty"]).backward()  # type: ignore[no-untyped-call]
    assert gradient(network.value_out.weight)[N].abs().sum() == 0
    assert gradient(network.value_out.weight)[A_EMPTY].abs().sum() > 0


@pytest.mark.parametrize(
    ("consumption", "closed"), [("multi", True), ("single", True), ("multi", False), ("single", False)]
)
def test_open_and_closed_rows_train_the_choice_of_the_model(
    network: RankingNetwork, tables: IdTables, space: ActionSpace, consumption: Consumption, closed: bool
) -> None:
    batch = batch_of([[3]], [[5, 6]], {0: [1]}, closed=np.array([closed]), settled=np.array([closed]))
    outputs = outputs_of(network, tables, space, batch)
    choice = loss_parts(outputs, torch.zeros(1), batch, without_chance(batch), AgentSettings(consumption=consumption))[
        "choice"
    ]
    v = np.exp(outputs.choice.detach().numpy()[0].astype(np.float64))
    bernoulli = np.log1p(v[0]) + np.log1p(1 / v[1])
    softmax = np.log((v.sum() + (consumption == "single" and closed)) / v[1])
    assert choice.item() == pytest.approx(bernoulli if consumption == "multi" and closed else softmax, rel=1e-4)


def test_the_rank_bias_takes_what_a_position_alone_attracts(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3]], [[5, 5]])
    choice = outputs_of(network, tables, space, batch).choice[0]
    assert (choice[1] - choice[0]).item() == pytest.approx(
        (network.rank_bias[1] - network.rank_bias[0]).item(), abs=1e-5
    )


# --- organic rows, dropout ---------------------------------------------------------------------------------------


def test_organic_rows_train_the_choice_against_the_batch_and_nothing_else(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of(
        [[3], [4], []],
        [[5, 6], [7], [8]],
        {0: [1], 1: [0], 2: [0]},
        organic=np.array([False, True, True]),
        closed=np.array([True, False, False]),
        settled=np.array([True, False, False]),
    )
    rows, positions = np.array([[1, 0, 2], [2, 1, 2]]), np.array([[0, 1, 0], [0, 0, 0]])
    usable, log_sampling = np.array([[True, True, True], [True, True, False]]), np.zeros((2, 3), np.float32)
    draws = replace(without_chance(batch), rows=rows, positions=positions, usable=usable, log_sampling=log_sampling)
    outputs = forward(network, tables, space, batch, draws, centre=0.5)

    def logit(history: list[int], content: int) -> float:
        alone = outputs_of(network, tables, space, batch_of([history], [[content]]))
        return (alone.choice[0, 0] - network.rank_bias[0]).item()

    expected = [[logit([4], c) for c in (7, 6, 8)], [logit([], c) for c in (8, 7, 8)]]
    np.testing.assert_allclose(outputs.organic.detach(), np.where(usable, expected, 0), atol=1e-4)
    parts = loss_parts(outputs, torch.zeros(3), batch, draws, AgentSettings())
    (first, second) = (np.exp(np.array(row)) for row in expected)
    by_hand = np.mean([np.log(first.sum() / first[0]), np.log((second[0] + second[1]) / second[0])])
    assert parts["organic"].item() == pytest.approx(by_hand, rel=1e-4)
    assert parts["total"].item() == pytest.approx(
        sum(parts[name].item() for name in ("u", "n", "a", "a_empty", "choice")) + 0.3 * by_hand, rel=1e-4
    )


def test_dropped_ids_leave_the_text_path_of_a_content_never_seen(
    network: RankingNetwork, tables: IdTables, space: ActionSpace
) -> None:
    batch = batch_of([[3]], [[5]])
    dropped = replace(without_chance(batch), keep_user=np.zeros(1, np.bool_), keep_content=np.zeros(1, np.bool_))
    outputs = forward(network, tables, space, batch, dropped, centre=0.5)
    tables.user[3], tables.content[5] = 9.0, 9.0
    again = forward(network, tables, space, replace(batch, log_count=batch.log_count + 3), dropped, centre=0.5)
    assert torch.equal(outputs.choice, again.choice)
    tables.user[3], tables.content[5] = 0.0, 0.0
    unseen = forward(
        network, tables, space, replace(batch, log_count=np.full((1, 1), -0.5, np.float32)), without_chance(batch), 0.5
    )
    torch.testing.assert_close(unseen.choice, outputs.choice)
    torch.testing.assert_close(unseen.values, outputs.values)
