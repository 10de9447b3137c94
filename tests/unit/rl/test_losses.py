from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import plain_losses
from libs.rl import losses

YES, NO = True, False


def test_discount_follows_the_gap_within_its_clips() -> None:
    gaps = np.array([0.0, 60.0, 120.0, 6000.0], np.float32)
    np.testing.assert_allclose(losses.discounts(0.9, gaps, 60.0), [0.9, 0.9, 0.81, 0.9**10], rtol=1e-6)
    assert losses.discounts(0.0, gaps, 60.0).tolist() == [0, 0, 0, 0]


def test_huber_is_square_within_one_and_linear_beyond() -> None:
    loss, slope = losses.mean_huber_loss(np.array([0.5, -3.0]), np.zeros(2), np.array([YES, YES]))
    assert loss == (0.125 + 2.5) / 2
    assert slope.tolist() == [0.25, -0.5]


def test_the_mean_of_nothing_is_zero() -> None:
    values = np.array([1.0, np.nan])
    assert losses.mean_huber_loss(values, np.zeros(2), np.array([YES, NO]))[0] == 0.5
    assert losses.mean_huber_loss(values, np.zeros(2), np.array([NO, NO]))[0] == 0


def test_open_rows_compare_the_consumed_with_the_shown() -> None:
    logits, shown = np.log([[1.0, 3.0, 4.0, 1e9]]), np.array([[YES, YES, YES, NO]])
    one, _ = losses.slate_softmax_loss(logits, np.array([[NO, NO, YES, NO]]), shown)
    assert one.item() == pytest.approx(np.log(2))
    two, _ = losses.slate_softmax_loss(logits, np.array([[YES, NO, YES, NO]]), shown)
    assert two.item() == pytest.approx((np.log(8) + np.log(2)) / 2)


def test_several_consumptions_are_independent() -> None:
    logits, chosen, shown = np.log([[1.0, 3.0, 1e9]]), np.array([[NO, YES, NO]]), np.array([[YES, YES, NO]])
    assert losses.bernoulli_loss(logits, chosen, shown)[0].item() == pytest.approx(np.log(2) + np.log(4 / 3))


def test_a_single_consumption_competes_with_nothing() -> None:
    logits, shown = np.log([[1.0, 2.0, 1e9]] * 3), np.array([[YES, YES, NO]] * 3)
    chosen = np.array([[NO, YES, NO], [NO, NO, NO], [YES, YES, NO]])
    expected = [np.log(4 / 2), np.log(4), (np.log(4) + np.log(2)) / 2]
    np.testing.assert_allclose(losses.conditional_logit_loss(logits, chosen, shown)[0], expected, rtol=1e-6)


def test_rows_without_contents_have_no_nan_and_no_gradient() -> None:
    logits, nothing = np.zeros((1, 2)), np.array([[NO, NO]])
    for rule in (losses.slate_softmax_loss, losses.bernoulli_loss, losses.conditional_logit_loss):
        loss, slopes = rule(logits, nothing, nothing)
        assert loss.tolist() == [0]
        assert slopes.tolist() == [[0, 0]]


def test_in_batch_softmax_takes_popularity_out_of_the_alternatives() -> None:
    # Alternatives drawn four times as often count a quarter.
    logits, log_sampling = np.zeros((1, 3)), np.log([[1.0, 4.0, 4.0]])
    loss, _ = losses.in_batch_softmax_loss(logits, log_sampling, np.array([[YES, YES, YES]]))
    assert loss.item() == pytest.approx(np.log(1.5))
    own, _ = losses.in_batch_softmax_loss(logits, log_sampling, np.array([[YES, NO, NO]]))
    assert own.item() == pytest.approx(0)


RULES = ("slate_softmax_loss", "bernoulli_loss", "conditional_logit_loss", "in_batch_softmax_loss", "soft_maximum")


@pytest.mark.parametrize("name", RULES)
def test_gradients_are_those_of_the_plain_forms(name: str) -> None:
    rng = np.random.default_rng(0)
    logits, shown = 5 * rng.normal(size=(40, 6)), rng.random((40, 6)) < 0.8
    shown[:, 0] = YES
    arguments: list[NDArray[Any]] = [rng.random((40, 6)) < 0.3]
    arguments = {"in_batch_softmax_loss": [rng.normal(size=(40, 6))], "soft_maximum": []}.get(name, arguments)
    arguments = [each & shown if each.dtype == np.bool_ else each for each in arguments] + [shown]
    loss, slopes = getattr(losses, name)(logits, *arguments)
    plain: Callable[..., Tensor] = getattr(plain_losses, name)
    leaf = torch.from_numpy(logits).requires_grad_()
    expected = plain(leaf, *map(torch.from_numpy, arguments))
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-6)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    np.testing.assert_allclose(slopes, gradient, atol=1e-6)
