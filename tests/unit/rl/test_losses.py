import numpy as np
import pytest
import torch

from libs.rl import losses

YES, NO = True, False


def test_discount_follows_the_gap_within_its_clips() -> None:
    gaps = torch.tensor([0.0, 60.0, 120.0, 6000.0])
    np.testing.assert_allclose(losses.discounts(0.9, gaps, 60.0), [0.9, 0.9, 0.81, 0.9**10], rtol=1e-6)
    assert losses.discounts(0.0, gaps, 60.0).tolist() == [0, 0, 0, 0]


def test_target_is_reward_plus_discounted_value_without_gradient() -> None:
    value = torch.tensor([10.0, 10.0], requires_grad=True)
    target = losses.td_target(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), value)
    assert target.tolist() == [6.0, 2.0]
    assert not target.requires_grad


def test_huber_is_square_within_one_and_linear_beyond() -> None:
    assert losses.huber(torch.tensor([0.5, 3.0]), torch.zeros(2)).tolist() == [0.125, 2.5]


def test_masked_mean_of_nothing_is_zero() -> None:
    values = torch.tensor([1.0, 3.0, 100.0])
    assert losses.masked_mean(values, torch.tensor([YES, YES, NO])) == 2
    assert losses.masked_mean(values, torch.tensor([NO, NO, NO])) == 0


def test_open_rows_compare_the_consumed_with_the_shown() -> None:
    logits = torch.log(torch.tensor([[1.0, 3.0, 4.0, 1e9]]))
    shown = torch.tensor([[YES, YES, YES, NO]])
    one = losses.slate_softmax_loss(logits, torch.tensor([[NO, NO, YES, NO]]), shown)
    assert one.item() == pytest.approx(np.log(2))
    two = losses.slate_softmax_loss(logits, torch.tensor([[YES, NO, YES, NO]]), shown)
    assert two.item() == pytest.approx((np.log(8) + np.log(2)) / 2)


def test_several_consumptions_are_independent() -> None:
    logits = torch.log(torch.tensor([[1.0, 3.0, 1e9]]))
    chosen, shown = torch.tensor([[NO, YES, NO]]), torch.tensor([[YES, YES, NO]])
    assert losses.bernoulli_loss(logits, chosen, shown).item() == pytest.approx(np.log(2) + np.log(4 / 3))


def test_a_single_consumption_competes_with_nothing() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 1e9]] * 3))
    chosen = torch.tensor([[NO, YES, NO], [NO, NO, NO], [YES, YES, NO]])
    shown = torch.tensor([[YES, YES, NO]] * 3)
    expected = [np.log(4 / 2), np.log(4), (np.log(4) + np.log(2)) / 2]
    np.testing.assert_allclose(losses.conditional_logit_loss(logits, chosen, shown), expected, rtol=1e-6)


def test_rows_without_contents_have_no_nan_and_no_gradient() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    nothing = torch.tensor([[NO, NO]])
    for loss in (losses.slate_softmax_loss, losses.bernoulli_loss, losses.conditional_logit_loss):
        (gradient,) = torch.autograd.grad(loss(logits, nothing, nothing).sum(), logits)
        assert gradient.abs().sum() == 0


def test_in_batch_softmax_takes_popularity_out_of_the_alternatives() -> None:
    # Alternatives drawn four times as often count a quarter.
    logits = torch.zeros(1, 3)
    log_sampling = torch.log(torch.tensor([[1.0, 4.0, 4.0]]))
    every = torch.tensor([[YES, YES, YES]])
    assert losses.in_batch_softmax_loss(logits, log_sampling, every).item() == pytest.approx(np.log(1.5))
    own = torch.tensor([[YES, NO, NO]])
    assert losses.in_batch_softmax_loss(logits, log_sampling, own).item() == pytest.approx(0)
