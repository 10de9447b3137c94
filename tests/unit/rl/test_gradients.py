import pytest
import torch
from torch import Tensor

from libs.rl.gradients import bag_sums, pair_sums, partly_learned_products

ROW, AT = torch.tensor([0, 0, 1, 2, 2, 0]), torch.tensor([3, 1, 1, 0, 3, 3])
BAGS, OFFSETS = torch.tensor([1, 2, 1, 0, 2]), torch.tensor([0, 3, 3, 4])  # the second is empty


def learned(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_sums_of_pairs_and_their_gradients() -> None:
    user, content, weight = learned(3, 4), learned(5, 4, seed=1), learned(4, seed=2)
    amount = learned(6, seed=3).detach()
    expected = user[ROW] + content[AT] + amount[:, None] * weight
    torch.testing.assert_close(pair_sums(user, content, amount, weight, ROW, AT), expected)
    assert torch.autograd.gradcheck(lambda *x: pair_sums(x[0], x[1], amount, x[2], ROW, AT), (user, content, weight))


def test_sums_of_bags_and_their_gradients() -> None:
    rows = learned(3, 4)
    expected = torch.stack([rows[[1, 2, 1]].sum(0), torch.zeros(4).double(), rows[0], rows[2]])
    torch.testing.assert_close(bag_sums(rows, BAGS, OFFSETS), expected)
    assert torch.autograd.gradcheck(lambda x: bag_sums(x, BAGS, OFFSETS), (rows,))


@pytest.mark.parametrize("at", [0, 2, 3])
def test_products_with_an_input_of_which_some_columns_are_learned(at: int) -> None:
    given, ids, one, other = learned(6, 3).detach(), learned(6, 2, seed=1), learned(4, 5, seed=2), learned(4, 5, seed=3)
    whole = torch.cat([given[:, :at], ids, given[:, at:]], dim=1)
    expected = torch.cat([whole @ one.T, whole @ other.T], dim=1)
    torch.testing.assert_close(partly_learned_products(given, ids, at, one, other), expected)
    assert torch.autograd.gradcheck(lambda *x: partly_learned_products(given, x[0], at, *x[1:]), (ids, one, other))
