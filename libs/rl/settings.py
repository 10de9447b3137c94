"""What can be set about learning. Each default once, with its reason."""

import math
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from libs.rl.rewards import RewardSpec
from libs.rl.sampling import RECENT
from libs.rl.slates import Consumption

MAX_CAPACITY: Final = 50_000_000

Target: TypeAlias = Literal["onpolicy", "greedy"]


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of an agent; rl.md §4 has the measurements behind the defaults.

    Raises
    ------
    ValueError
        A value out of its range, naming the setting.
    """

    gamma: float = 0.9
    """Discount of one ``tau_s`` of a user's time. 0 makes a contextual bandit of the same code."""
    tau_s: float = 60.0
    """Seconds that ``gamma`` discounts once: set it to the median gap between requests of a session, as reported."""
    consumption: Consumption = "multi"
    """``multi``: several contents of a slate may be consumed. ``single``: at most one (SlateQ)."""
    target: Target = "onpolicy"
    """What a story's continuation is worth. ``onpolicy``: the value of a request under the policy that serves.
    ``greedy``: the value, by the target network, of the slate the online network would choose from what was offered
    (Double DQN); for logs of a poor policy, at three times the work."""
    cql_weight: float = 0.0
    """Weight of pushing down the advantage of what was offered below that of what was consumed (conservative
    Q-learning): above 0 for logs of a policy that hardly explored, for half again the work."""
    context_numbers: tuple[str, ...] = ()
    """Names of context numbers that are inputs as they are; everything else is hashed."""
    reward: RewardSpec = field(default_factory=RewardSpec)
    """How raw terms become a reward."""
    batch_size: int = 256
    """Rows of an update: 16 times the samples per second of single rows, and no slower to learn per sample."""
    capacity: int = 1_000_000
    """Rows kept; under 1 KB each."""
    learning_starts: int = 500
    """Rows before the first update: fewer teach the first users' taste to everybody."""
    replay_ratio: float = 12.0
    """Samples drawn for each row inserted, at most: 5 starts slowly, 34 and more overfit."""
    recent_share: float = RECENT
    """Newest share of the buffer that half of each batch is drawn from: what is new is learned soon. 1 draws from all
    rows alike, for worlds that stay as they are."""
    beta: float = 1.0
    """Weight of the choice loss beside the value losses."""
    organic_weight: float = 0.3
    """Weight, in the choice loss, of comparing consumed contents with others that were consumed elsewhere: all that
    consumption outside of impressions can teach."""
    compared: float = 0.0
    """Share of impressions of which one consumed content is compared in that way too. 1 learned most on MovieLens, with
    ``organic_weight`` 1, for a third more work an update."""
    lr: float = 1e-3
    """AdamW's step at first …"""
    lr_final: float = 3e-4
    """… and from ``lr_decay_updates`` on, linearly in between: a stream never ends, so the step never reaches 0."""
    lr_decay_updates: int = 20_000
    """Updates over which the step shrinks."""
    id_lr: float = 5e-3
    """Step of the id rows: each is touched rarely and has to learn from few rows; twice as far overfits sooner."""
    weight_decay: float = 1e-4
    """Decoupled decay of weights and touched id rows."""
    clip_norm: float = 10.0
    """Longest gradient, over weights and id rows together."""
    target_rate: float = 0.005
    """Share of the online user tower that the target takes over each update; hard copies make U crawl."""
    id_dropout: float = 0.1
    """Share of rows that see no ids: it trains the text path that new contents and ``predict/bulk`` rely on. 1 learns
    and ranks by text and context alone: for contents that are gone before their ids have taught anything."""
    history_dropout: float = 0.0
    """Share of a history's contents that an update does not see, so that no pair of contents is learned by heart."""

    def __post_init__(self) -> None:
        _within("gamma", self.gamma, 0, 1, below=True)
        _within("id_dropout", self.id_dropout, 0, 1)
        _within("history_dropout", self.history_dropout, 0, 1, below=True)
        _within("target_rate", self.target_rate, 0, 1)
        _within("recent_share", self.recent_share, 0, 1)
        _within("compared", self.compared, 0, 1)
        for name in ("tau_s", "replay_ratio", "lr", "lr_final", "id_lr", "clip_norm"):
            _within(name, getattr(self, name), 1e-12, math.inf)
        for name in ("beta", "organic_weight", "weight_decay", "cql_weight"):
            _within(name, getattr(self, name), 0, math.inf)
        for name in ("batch_size", "capacity", "learning_starts", "lr_decay_updates"):
            _within(name, getattr(self, name), 1, MAX_CAPACITY)
        if self.consumption not in ("multi", "single"):
            raise ValueError(f"consumption must be 'multi' or 'single', not {self.consumption!r}")
        if self.target not in ("onpolicy", "greedy"):
            raise ValueError(f"target must be 'onpolicy' or 'greedy', not {self.target!r}")

    @property
    def learns_ids(self) -> bool:
        """Whether anything is learned from ids."""
        return self.id_dropout < 1

    def value_bound(self, slate_size: int) -> float:
        """Return what no true value exceeds in magnitude: so many rewards for every request, for ever.

        Holds because a gap discounts at least once (rl.md §4).
        """
        contents = slate_size if self.consumption == "multi" else 1
        return contents * max(abs(self.reward.low), abs(self.reward.high)) / (1 - self.gamma)

    def learning_rate(self, updates: int) -> float:
        """Return the step of the weights after so many updates."""
        return self.lr + (self.lr_final - self.lr) * min(1.0, updates / self.lr_decay_updates)


def _within(name: str, value: int | float, low: int | float, high: int | float, below: bool = False) -> None:
    if not (low <= value < high if below or math.isinf(high) else low <= value <= high):
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}{')' if below else ']'}, not {value!r}")
