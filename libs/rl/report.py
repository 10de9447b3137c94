"""What one update did, as numbers to watch (rl.md §10)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from libs.rl import losses
from libs.rl.action_space import PADDING
from libs.rl.batch import Batch
from libs.rl.networks import A_EMPTY, N, U
from libs.rl.settings import AgentSettings
from libs.rl.update import Outputs

_GAPS: Final = 8  # of an update: enough for a distribution, and little beside a gradient


@dataclass(frozen=True, slots=True)
class Report:
    """What one update did. When ``finite`` is false it changed no weight, and its rows count as not yet trained.

    ``q_max`` is the largest magnitude among U and Q of what was consumed, ``value_bound`` what no true value exceeds.
    Shares are of the rows whose future is known: ``terminal_share`` ended there, ``empty_share`` consumed nothing.
    ``continuation_mean`` is the mean of target minus reward, ``advantage_spread`` the mean over slates of the standard
    deviation of A, ``row_age_p50`` how many rows came after the sampled ones, ``gaps`` a sample of (seconds to the next
    request, discount), ``dormant`` the share of dormant units by hidden layer, measured now and then.
    """

    loss: Mapping[str, float]
    q_mean: float
    q_max: float
    td_p50: float
    td_p99: float
    gradient_norm: float
    batch: int
    finite: bool
    value_bound: float = np.inf
    settled: int = 0
    terminal_share: float = 0.0
    empty_share: float = 0.0
    continuation_mean: float = 0.0
    advantage_spread: float = 0.0
    row_age_p50: float = 0.0
    gaps: tuple[tuple[float, float], ...] = ()
    dormant: tuple[float, ...] = ()


def report_of(
    parts: Mapping[str, Tensor],
    outputs: Outputs,
    continuation: Float[Tensor, "B"],
    batch: Batch,
    ages: Int64[np.ndarray, "B"],
    settings: AgentSettings,
    gradient_norm: float,
    finite: bool,
) -> Report:
    """Return the report of an update from everything it computed; ``ages`` is in rows inserted since."""
    values, advantage = outputs.values.detach().numpy(), outputs.advantage.detach().numpy()
    settled, ahead = batch.settled, continuation.numpy()
    q = (values[:, N, None] + advantage)[batch.chosen & ~batch.organic[:, None]]
    empty = settled & ~batch.chosen.any(axis=1)
    seen = np.concatenate([q, values[empty][:, N] + values[empty][:, A_EMPTY], values[settled][:, U]])
    errors = np.sort(np.abs(batch.rewards.sum(axis=1) + ahead - values[:, U])[settled])
    return Report(
        loss=dict(zip(parts, torch.stack([*parts.values()]).tolist(), strict=True)),
        q_mean=_mean(q),
        q_max=float(np.abs(seen).max(initial=0.0)),
        td_p50=_quantile(errors, 0.5),
        td_p99=_quantile(errors, 0.99),
        gradient_norm=gradient_norm,
        batch=len(batch.slots),
        finite=finite,
        value_bound=settings.value_bound(batch.slate.shape[1]),
        settled=int(settled.sum()),
        terminal_share=1 - len(batch.continued) / max(int(settled.sum()), 1),
        empty_share=float(empty.sum() / max(int(settled.sum()), 1)),
        continuation_mean=_mean(ahead[settled]),
        advantage_spread=_spread(advantage, (batch.slate != PADDING) & ~batch.organic[:, None]),
        row_age_p50=_quantile(np.sort(ages), 0.5),
        gaps=_gaps(batch.gap_s, settings),
    )


def _gaps(gap_s: np.ndarray, settings: AgentSettings) -> tuple[tuple[float, float], ...]:
    sample = gap_s[:: 1 + len(gap_s) // _GAPS]
    discounts = losses.discounts(settings.gamma, sample, settings.tau_s)
    return tuple(zip(sample.tolist(), discounts.tolist(), strict=True))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _quantile(ordered: np.ndarray, share: float) -> float:
    return float(ordered[int(share * len(ordered))]) if len(ordered) else 0.0


def _spread(advantage: np.ndarray, shown: np.ndarray) -> float:
    count = shown.sum(axis=1)
    several = count > 1
    if not several.any():
        return 0.0
    kept, count = np.where(shown, advantage, 0)[several], count[several]
    centred = np.where(shown[several], kept - (kept.sum(axis=1) / count)[:, None], 0)
    return float(np.sqrt((centred**2).sum(axis=1) / count).mean())
