"""The bugs of the table in rl.md §1, planted: a pytest plugin that puts one of them into the code before tests load it.

``MOARD_PLANTED_BUG=name python -m pytest -p tests.planted.bugs …``. Each trains, and none alarms: only a test tells.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from libs.rl import sampling, slates, update
from libs.rl.batch import Batch, Users
from libs.rl.replay import Replay
from libs.rl.settings import AgentSettings

VARIABLE = "MOARD_PLANTED_BUG"


def _change_outputs(change: Callable[[torch.Tensor, Batch], torch.Tensor]) -> None:
    plain = update.forward

    def forward(*arguments: Any, **named: Any) -> update.Outputs:
        outputs = plain(*arguments, **named)
        return replace(outputs, advantage=change(outputs.advantage, arguments[3]))

    update.forward = forward


def advantage_centred_over_the_batch() -> None:
    _change_outputs(lambda advantage, batch: advantage - advantage.mean())


def advantage_centred_over_its_slate() -> None:
    def centred(advantage: torch.Tensor, batch: Batch) -> torch.Tensor:
        shown = torch.from_numpy(batch.slate != 0)
        mean = torch.where(shown, advantage, 0).sum(dim=1) / shown.sum(dim=1).clamp(min=1)
        return advantage - mean[:, None]

    _change_outputs(centred)


def target_on_the_same_state() -> None:
    plain = update.continuation_values

    def continuation_values(
        target: Any, tables: Any, space: Any, batch: Batch, settings: AgentSettings
    ) -> torch.Tensor:
        rows, here = batch.continued, batch.users
        same = Users(here.history[rows], here.weights[rows], here.context[rows])
        return plain(target, tables, space, replace(batch, next_users=same), settings)

    update.continuation_values = continuation_values


def always_done() -> None:
    def continuation_values(
        target: Any, tables: Any, space: Any, batch: Batch, settings: AgentSettings
    ) -> torch.Tensor:
        return torch.zeros(len(batch.slots))

    update.continuation_values = continuation_values


def one_sample_a_step() -> None:
    plain = sampling.sample

    def sample(replay: Replay, batch_size: int, rng: np.random.Generator, recent_share: float = 0.05) -> np.ndarray:
        return plain(replay, 1, rng, recent_share)

    sampling.sample = sample


def propensity_without_the_uniform_arm() -> None:
    def mixture(policy: np.ndarray, uniform: np.ndarray, epsilon: np.ndarray | float) -> np.ndarray:
        return policy

    slates.mixture = mixture


BUGS: Mapping[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        advantage_centred_over_the_batch,
        advantage_centred_over_its_slate,
        target_on_the_same_state,
        always_done,
        one_sample_a_step,
        propensity_without_the_uniform_arm,
    )
}

if planted := os.environ.get(VARIABLE):
    BUGS[planted]()
