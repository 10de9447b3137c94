"""Slates of a greedy policy in batches: the same as one request at a time, and their value by hand."""

import math

import numpy as np
import pytest
import torch

from libs.rl.greedy import best_slate, slate_value
from libs.rl.slates import Consumption, Scores, slate_scores


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values])


def test_single_consumption_weighs_advantages_by_the_chance_of_each_choice_and_of_none() -> None:
    choice = row(math.log(2), math.log(3), 5.0)
    shown = torch.tensor([[True, True, False]])
    value = slate_value(row(1.0, 4.0, 99.0), choice, row(10.0)[0], row(-6.0)[0], shown, "single")
    assert value.item() == pytest.approx(10 + (2 * 1 + 3 * 4 + 1 * -6) / (2 + 3 + 1), rel=1e-6)


def test_multi_consumption_adds_advantages_and_knows_that_nothing_may_be_consumed() -> None:
    choice = row(0.0, math.log(3), 7.0)
    shown = torch.tensor([[True, True, False]])
    value = slate_value(row(1.0, 4.0, 99.0), choice, row(10.0)[0], row(-6.0)[0], shown, "multi")
    assert value.item() == pytest.approx(10 + 0.5 * 1 + 0.75 * 4 + 0.5 * 0.25 * -6, rel=1e-6)


def test_logits_of_any_size_leave_the_value_finite() -> None:
    shown = torch.ones(1, 2, dtype=torch.bool)
    value = slate_value(row(1.0, 2.0), row(800.0, -800.0), row(0.0)[0], row(0.0)[0], shown, "single")
    assert value.item() == pytest.approx(1.0)
    value = slate_value(row(1.0, 2.0), row(-800.0, -800.0), row(0.0)[0], row(0.5)[0], shown, "single")
    assert value.item() == pytest.approx(0.5)


@pytest.mark.parametrize("consumption", ["multi", "single"])
def test_whole_batches_choose_what_serving_would_choose_for_each_request(consumption: Consumption) -> None:
    rng = np.random.default_rng(0)
    rows, width = 64, 12
    advantage, choice = rng.normal(1, 1, (2, rows, width)).astype(np.float32)
    a_empty, size = rng.normal(0, 1, rows).astype(np.float32), rng.integers(1, 7, rows)
    offered = np.arange(width) < rng.integers(1, width + 1, rows)[:, None]
    best = best_slate(
        torch.from_numpy(advantage),
        torch.from_numpy(choice),
        torch.from_numpy(a_empty),
        torch.from_numpy(offered),
        torch.from_numpy(size),
        consumption,
    ).numpy()
    for at in range(rows):
        known = offered[at]
        said = Scores(advantage[at, known], choice[at, known], 0.0, 0.0, float(a_empty[at]))
        scores = slate_scores(said, "value", consumption, int(size[at]))
        expected = set(np.argsort(-scores, kind="stable")[: size[at]].tolist())
        assert set(np.flatnonzero(best[at]).tolist()) == expected


def test_the_best_single_slate_leaves_out_what_would_crowd_out_a_better_choice() -> None:
    # Alone the second content is worth less than the value of showing the first one only to a user who always takes it.
    advantage, choice = row(10.0, 1.0, 0.0), row(3.0, 2.0, -3.0)
    offered = torch.ones(1, 3, dtype=torch.bool)
    best = best_slate(advantage, choice, row(0.0)[0], offered, torch.tensor([2]), "single")
    assert best.tolist() == [[True, False, True]]
