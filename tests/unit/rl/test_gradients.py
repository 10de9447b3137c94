import pytest
import torch
from torch import Tensor
from torch.nn import functional

from libs.rl.gradients import (
    JointLayers,
    PairIndex,
    bag_sums,
    joint_heads,
    pair_products,
    partly_learned_products,
    placed,
)
from libs.rl.scoring import NORM_EPSILON

PAIRS = PairIndex(torch.tensor([0, 0, 1, 2, 2, 0]), torch.tensor([3, 1, 1, 0, 3, 3]), rows=3, contents=5)
BAGS, OFFSETS = torch.tensor([1, 2, 1, 0, 2]), torch.tensor([0, 3, 3, 4])  # the second is empty


def learned(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def joint_layers(size: int) -> JointLayers:
    shapes = [(size,)] * 3 + [(size, size)] + [(size,)] * 3 + [(2, size), (2,)]
    return JointLayers(*(learned(*shape, seed=10 + at) for at, shape in enumerate(shapes)))


def test_heads_of_pairs_and_their_gradients() -> None:
    user, content, layers = learned(3, 4), learned(5, 4, seed=1), joint_layers(4)
    amount = learned(6, seed=3).detach()
    first = user[PAIRS.row] + content[PAIRS.at] + amount[:, None] * layers.weight
    hidden = functional.relu(functional.layer_norm(first, (4,), layers.gain_1, layers.bias_1, NORM_EPSILON))
    second = functional.linear(hidden, layers.middle, layers.middle_bias)
    last = functional.relu(functional.layer_norm(second, (4,), layers.gain_2, layers.bias_2, NORM_EPSILON))
    expected = functional.linear(last, layers.heads, layers.heads_bias).T
    heads, hidden_1, hidden_2 = joint_heads(user, content, amount, PAIRS, layers)
    torch.testing.assert_close((heads, hidden_1, hidden_2), (expected, hidden.detach(), last.detach()))
    upstream = learned(2, 6, seed=4).detach()
    ours = torch.autograd.grad(heads, (user, content, *layers), upstream)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, (user, content, *layers), upstream))


def test_products_of_pairs_and_their_gradients() -> None:
    user, mixed, content = learned(3, 4), learned(3, 4, seed=1), learned(5, 5, seed=2)
    vectors, last = content[PAIRS.at, :4], content[PAIRS.at, 4]
    expected = torch.stack([(mixed[PAIRS.row] * vectors).sum(1), (user[PAIRS.row] * vectors).sum(1) + last])
    torch.testing.assert_close(pair_products(user, mixed, content, PAIRS), expected)
    assert torch.autograd.gradcheck(lambda u, m, c: pair_products(u, m, c, PAIRS), (user, mixed, content))


def test_pairs_stand_at_their_places() -> None:
    pairs, places, shapes = learned(2, 4), [torch.tensor([3, 0]), torch.tensor([1, 2])], [(2, 2), (1, 3)]
    first, second, third, fourth = placed(pairs, places, shapes)
    torch.testing.assert_close(first, torch.stack([pairs[0, 1], *pairs.new_zeros(2), pairs[0, 0]]).view(2, 2))
    assert second[1, 1] == pairs[1, 0]
    assert third[0].tolist() == [0, *pairs[0, 2:].tolist()]
    assert fourth[0, 2] == pairs[1, 3]
    assert torch.autograd.gradcheck(lambda x: placed(x, places, shapes), (pairs,))


def test_sums_of_bags_and_their_gradients() -> None:
    rows = learned(3, 4)
    expected = torch.stack([rows[[1, 2, 1]].sum(0), torch.zeros(4).double(), rows[0], rows[2]])
    torch.testing.assert_close(bag_sums(rows, BAGS, OFFSETS), expected)
    assert torch.autograd.gradcheck(lambda x: bag_sums(x, BAGS, OFFSETS), (rows,))


@pytest.mark.parametrize(("before", "after"), [(3, 0), (0, 3), (2, 1), (1, 1)])
def test_products_with_an_input_of_which_some_columns_are_learned(before: int, after: int) -> None:
    left, right = learned(6, before).detach(), learned(6, after, seed=4).detach()
    ids, one, other = learned(6, 2, seed=1), learned(4, 5, seed=2), learned(4, 5, seed=3)
    whole = torch.cat([left, ids, right, torch.zeros(6, 3 - before - after)], dim=1)
    torch.testing.assert_close(partly_learned_products(left, ids, right, one, other), (whole @ one.T, whole @ other.T))
    assert torch.autograd.gradcheck(lambda *x: partly_learned_products(left, x[0], right, *x[1:]), (ids, one, other))
