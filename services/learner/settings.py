"""Settings of the learner: each default once, with its unit and its reason."""

from dataclasses import fields, replace
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from libs.adapters.settings import PositiveFloat, PositiveInt, StackSettings
from libs.rl.rewards import RewardSpec
from libs.rl.settings import AgentSettings
from services.learner.evaluation_rows import Goal
from services.learner.windows import PROFILES, JoinLimits, JoinRules, Windows

_AGENT = AgentSettings()
_LIMITS = JoinLimits()


class Settings(StackSettings):
    """What the learner reads from the environment."""

    learner_metrics_host: str = Field(
        "127.0.0.1", description="Address of /metrics and /healthz; beyond loopback needs allow_insecure."
    )
    learner_metrics_port: int = Field(8002, ge=0, le=65535, description="TCP port of /metrics; 0 takes a free one.")

    learner_nice: int = Field(
        0,
        ge=0,
        le=19,
        description="Nice value: above 0 a ranking comes before an update where cores are short, and learning waits.",
    )
    learner_max_poll_records: PositiveInt = Field(
        2_000, description="Records taken in one turn of the loop: about 30 ms of decoding and joining."
    )
    learner_idle_poll_ms: PositiveInt = Field(
        100, description="Milliseconds a turn waits for records; what is due each second is at most this late."
    )
    learner_queue_changes: PositiveInt = Field(
        20_000, description="Row changes waiting for the training thread before reading pauses: about 20 MB."
    )
    learner_watchdog_s: PositiveFloat = Field(
        60.0, description="Seconds with lag and without a record until the process exits: an outage raises nothing."
    )

    learner_windows: Literal["live", "compressed"] = Field(
        "live", description="Profile of the join's windows; compressed is for replays that squeeze days into minutes."
    )
    learner_click_window_s: PositiveFloat | None = Field(
        None, description="Seconds after an impression in which a click belongs to it; empty: the profile's (600)."
    )
    learner_dwell_window_s: PositiveFloat | None = Field(
        None, description="The same for every other interaction, which come later; empty: the profile's (1800)."
    )
    learner_horizon_s: PositiveFloat | None = Field(
        None, description="Longest pause in seconds after which a user's story goes on; empty: the profile's (1800)."
    )
    learner_displacement_s: PositiveFloat | None = Field(
        None, description="Seconds by which events may overtake each other in the log; empty: the profile's (60)."
    )
    learner_require_seen: bool = Field(
        False, description="1: a slate without a click teaches only if a seen event came; for clients that send those."
    )
    learner_open_impressions: PositiveInt = Field(
        _LIMITS.open_impressions, description="Impressions that may still be joined, at most: about 250 MB."
    )
    learner_users: PositiveInt = Field(
        _LIMITS.users, description="Users whose recent visits are kept for organic rows, at most: about 50 MB."
    )
    learner_closed_impressions: PositiveInt = Field(
        _LIMITS.closed_impressions, description="Closed impressions that late interactions can still name: about 30 MB."
    )
    learner_dedup_events: PositiveInt = Field(
        _LIMITS.dedup_events, description="Event ids remembered to drop repetitions: about 110 MB."
    )
    learner_dedup_s: PositiveFloat = Field(
        _LIMITS.dedup_s, description="Seconds an event id is remembered: longer than any client retries."
    )

    learner_gamma: float = Field(_AGENT.gamma, ge=0, lt=1, description="Discount of one tau_s; 0: contextual bandit.")
    learner_tau_s: PositiveFloat = Field(
        _AGENT.tau_s, description="Seconds that gamma discounts once: the median gap between requests of a session."
    )
    learner_consumption: Literal["multi", "single"] = Field(
        _AGENT.consumption, description="Whether several contents of a slate may be consumed, or at most one."
    )
    learner_context_numbers: tuple[str, ...] = Field(
        _AGENT.context_numbers, description='Context numbers that are inputs as they are, JSON: ["hour"].'
    )
    learner_reward_weights: dict[str, float] = Field(
        dict(_AGENT.reward.weights), description='Weight of each reward term, JSON: {"click": 1.0}; others count 0.'
    )
    learner_reward_low: float = Field(_AGENT.reward.low, description="Least reward of one content; clips attacks.")
    learner_reward_high: float = Field(_AGENT.reward.high, description="Greatest reward of one content; clips attacks.")
    learner_target: Literal["onpolicy", "greedy"] = Field(
        _AGENT.target, description="What follows is worth: as the serving policy does (onpolicy), or at best (greedy)."
    )
    learner_cql_weight: float = Field(
        _AGENT.cql_weight, ge=0, description="Weight of conservatism; above 0 for logs of a policy that never explored."
    )
    learner_beta: float = Field(_AGENT.beta, ge=0, description="Weight of the choice loss beside the value losses.")
    learner_organic_weight: float = Field(
        _AGENT.organic_weight, ge=0, description="Weight, in the choice loss, of consumption outside of impressions."
    )
    learner_compared: float = Field(
        _AGENT.compared,
        ge=0,
        le=1,
        description="Share of impressions whose consumed contents are compared like that too.",
    )
    learner_lr: PositiveFloat = Field(_AGENT.lr, description="Step of the weights at first, AdamW ...")
    learner_lr_final: PositiveFloat = Field(_AGENT.lr_final, description="... and once lr_decay_updates are over.")
    learner_lr_decay_updates: PositiveInt = Field(
        _AGENT.lr_decay_updates, description="Updates over which the step shrinks; a stream never ends, so not to 0."
    )
    learner_id_lr: PositiveFloat = Field(
        _AGENT.id_lr, description="Step of what content ids teach: larger than lr as each is met rarely."
    )
    learner_weight_decay: float = Field(_AGENT.weight_decay, ge=0, description="Decoupled decay of all weights.")
    learner_clip_norm: PositiveFloat = Field(_AGENT.clip_norm, description="Longest gradient; tames rare outliers.")
    learner_target_rate: float = Field(
        _AGENT.target_rate, ge=0, le=1, description="Share of the online network that the target takes over an update."
    )
    learner_id_dropout: float = Field(
        _AGENT.id_dropout,
        ge=0,
        le=1,
        description="Share of rows that see no ids: new contents rely on it. 1: text only.",
    )
    learner_history_dropout: float = Field(
        _AGENT.history_dropout, ge=0, lt=1, description="Share of each history that an update does not see."
    )
    learner_batch_size: PositiveInt = Field(_AGENT.batch_size, description="Rows of an update.")
    learner_capacity: PositiveInt = Field(_AGENT.capacity, description="Rows in the replay buffer, 1 KB each.")
    learner_learning_starts: PositiveInt = Field(
        _AGENT.learning_starts, description="Rows before the first update: fewer teach the first users' taste to all."
    )
    learner_replay_ratio: PositiveFloat = Field(
        _AGENT.replay_ratio, description="Samples drawn for each row inserted, at most: 5 starts slowly, 34 overfit."
    )
    learner_recent_share: float = Field(
        _AGENT.recent_share,
        ge=0,
        le=1,
        description="Newest share of the buffer that half of each batch is drawn from; 1 where rewards are noisy.",
    )
    learner_backlog_replay_ratio: float = Field(
        1.0, ge=0, description="The same while changes are waiting: reading goes first. 0 pauses training meanwhile."
    )
    learner_schedule: Literal["live", "log"] = Field(
        "live", description="live: train whenever there is time; log: by the log alone, so that it repeats bit for bit."
    )
    learner_round_records: PositiveInt = Field(
        256, description="Records from one round of updates to the next with schedule log: about six updates."
    )
    learner_evaluation_window: PositiveInt = Field(
        20_000, description="Closed impressions that the windowed evaluation figures are made of: about 30 MB."
    )
    learner_seed: int = Field(0, ge=0, description="Seed of the first weights and of sampling.")

    learner_snapshot_interval_s: PositiveFloat = Field(
        1.0, description="Seconds between snapshots, if something was learned: half of the freshness aimed at."
    )
    learner_checkpoint_path: str = Field(".moard/checkpoints", description="Folder of checkpoints and ledger.")
    learner_checkpoint_interval_s: PositiveFloat = Field(
        30.0, description="Seconds between checkpoints: what a crash makes the next start read again."
    )
    learner_checkpoints_kept: PositiveInt = Field(3, description="Checkpoints kept: a damaged one has predecessors.")
    learner_ledger_hours: float = Field(
        168.0, ge=0, description="Hours the ledger keeps an event id: as long as the topic keeps events; 0: for ever."
    )
    learner_abandon_checkpoint: str = Field(
        "", description="Name of a checkpoint to leave behind: learn again from the beginning of the log instead."
    )
    learner_allow_gap: bool = Field(
        False, description="1: start although retention has deleted events that were not learned yet."
    )

    failpoint: str = Field(
        "", description="For tests alone: where this process kills itself, as point or point:passing. Empty: nowhere."
    )

    @field_validator(
        "learner_click_window_s", "learner_dwell_window_s", "learner_horizon_s", "learner_displacement_s", mode="before"
    )
    @classmethod
    def _empty_is_the_profile(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("learner_reward_high")
    @classmethod
    def _reward_can_be_declared(cls, high: float, info: ValidationInfo) -> float:
        weights, low = info.data.get("learner_reward_weights"), info.data.get("learner_reward_low")
        if weights is not None and low is not None:
            RewardSpec(weights, low, high)  # raises ValueError with what is wrong
        return high

    @field_validator("learner_schedule")
    @classmethod
    def _batches_can_be_full(cls, schedule: str, info: ValidationInfo) -> str:
        batch_size, capacity = info.data.get("learner_batch_size", 0), info.data.get("learner_capacity", 0)
        if schedule == "log" and batch_size > capacity:
            raise ValueError(
                f"log trains on full batches only: MOARD_LEARNER_BATCH_SIZE is {batch_size}, but "
                f"MOARD_LEARNER_CAPACITY holds {capacity} rows"
            )
        return schedule

    def join_rules(self) -> JoinRules:
        """Return what the join is told."""
        given = {
            "click_s": self.learner_click_window_s,
            "dwell_s": self.learner_dwell_window_s,
            "horizon_s": self.learner_horizon_s,
            "displacement_s": self.learner_displacement_s,
        }
        windows: Windows = replace(
            PROFILES[self.learner_windows], **{name: value for name, value in given.items() if value is not None}
        )
        limits = JoinLimits(
            open_impressions=self.learner_open_impressions,
            users=self.learner_users,
            closed_impressions=self.learner_closed_impressions,
            dedup_events=self.learner_dedup_events,
            dedup_s=self.learner_dedup_s,
            buffer_rows=self.learner_capacity,
        )
        return JoinRules(windows, limits, self.history_min_dwell_ms, self.learner_require_seen)

    def agent_settings(self) -> AgentSettings:
        """Return what the agent is told."""
        named = {
            each.name: getattr(self, f"learner_{each.name}") for each in fields(AgentSettings) if each.name != "reward"
        }
        reward = RewardSpec(self.learner_reward_weights, self.learner_reward_low, self.learner_reward_high)
        return AgentSettings(**named, reward=reward)

    def goal(self) -> Goal:
        """Return what evaluation counts: the same as learning."""
        agent = self.agent_settings()
        return Goal(agent.reward, agent.gamma, agent.tau_s, agent.consumption)
