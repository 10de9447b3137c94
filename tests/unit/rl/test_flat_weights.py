"""One vector for all weights: the same steps as with one tensor each."""

import torch
from torch import nn

from libs.rl.flat_weights import FlatWeights


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def test_a_step_of_the_vector_is_a_step_of_every_parameter() -> None:
    ours, theirs = net(), net()
    weights = FlatWeights(ours)
    flat = torch.optim.AdamW([weights.vector], lr=0.01, weight_decay=0.1, fused=True)
    plain = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        inputs = torch.randn(4, 3)
        ours(inputs).square().sum().backward()
        weights.vector.grad = weights.take_gradient()
        flat.step()
        plain.zero_grad()
        theirs(inputs).square().sum().backward()
        plain.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
        assert one.grad is None


def test_what_is_loaded_into_the_module_is_in_the_vector() -> None:
    module = net()
    weights = FlatWeights(module)
    module.load_state_dict({name: tensor + 1 for name, tensor in net().state_dict().items()})
    for name, part in weights.split(weights.vector.detach()).items():
        assert torch.equal(part, net().state_dict()[name] + 1)
    assert torch.equal(weights.joined(module.state_dict()), weights.vector)


def test_a_parameter_without_a_gradient_has_none_in_the_vector() -> None:
    module = net()
    weights = FlatWeights(module)
    module[0].weight.sum().backward()  # type: ignore[operator]
    gradient = weights.split(weights.take_gradient())
    assert gradient["0.weight"].tolist() == [[1.0] * 3] * 5
    assert gradient["2.weight"].abs().sum() == 0
