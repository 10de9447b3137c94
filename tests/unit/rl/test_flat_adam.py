"""The optimiser of the flat weights is torch's AdamW, without what torch imports for its class."""

import subprocess
import sys
from pathlib import Path

import torch

from libs.rl.flat_adam import FlatAdam


def test_it_steps_bit_for_bit_as_torchs_class_does() -> None:
    draws = torch.Generator().manual_seed(0)
    vector = torch.randn(1_000, generator=draws)
    theirs = torch.nn.Parameter(vector.clone())
    reference = torch.optim.AdamW([theirs], weight_decay=0.01, fused=True)
    ours = FlatAdam(1_000, weight_decay=0.01)
    for step in range(20):
        gradient, lr = torch.randn(1_000, generator=draws), 1e-3 / (1 + step)
        ours.step(vector, gradient, lr)
        theirs.grad = gradient.clone()
        reference.param_groups[0]["lr"] = lr
        reference.step()

    assert torch.equal(vector, theirs)
    assert ours.steps == 20


def test_an_agent_starts_and_trains_without_torchs_compiler() -> None:
    program = (
        "import sys; from tests.unit.rl.small_agent import make_agent, play; "
        "agent = make_agent(); play(agent, 40); agent.update(); sys.exit('torch._dynamo' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
