"""The agent: row changes in, updates when due, snapshots out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from libs.rl import agent_state, transitions
from libs.rl.action_space import ActionSpace
from libs.rl.agent_state import BEGINNING, Mark
from libs.rl.batch import Batch, draw, gather, next_offers, offers_of, thinned
from libs.rl.dormancy import dormant_share
from libs.rl.exposure import Exposure, exposure, newest
from libs.rl.features import encode_context, log_counts
from libs.rl.flat_adam import FlatAdam
from libs.rl.flat_weights import FlatWeights
from libs.rl.gradients import gradient_of
from libs.rl.greedy import greedy_continuation
from libs.rl.id_tables import SPREAD, IdTables
from libs.rl.networks import RankingNetwork, soft_update
from libs.rl.objective import loss_parts
from libs.rl.poison import Poisoned, expel
from libs.rl.popularity import Popularity
from libs.rl.replay import NOBODY, NewRow, Replay, key_of
from libs.rl.report import Report, report_of
from libs.rl.sampling import sample
from libs.rl.settings import AgentSettings
from libs.rl.snapshot import ID_SIZE, Snapshot, make_config
from libs.rl.transitions import RowChange, State
from libs.rl.update import Outputs, continuation_values, forward

__all__ = ["Agent", "AgentSettings", "Report"]

_DORMANCY_EVERY: Final = 100  # updates: units fall asleep over thousands
_FORCED_ROWS: Final = 32  # a gradient of one row alone would jerk the weights


class Agent:
    """Learn a ranking from row changes.

    Notes
    -----
    One thread owns it. There is no clock in it and no chance but the seed's: the same calls give the same bits, also
    across ``state`` and ``restore``.
    """

    def __init__(self, settings: AgentSettings, vector_size: int, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.space = ActionSpace(vector_size)
        self.replay = Replay(settings.capacity)
        self.popularity = Popularity()
        self.updates = 0
        self.samples = 0
        self.lost = 0  # interactions whose row had left the buffer
        self.exploration_boost = 1.0  # what serving multiplies its exploration by
        self.rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = RankingNetwork(vector_size)
        ranking = {name: tensor.clone() for name, tensor in self.network.weights().items()}
        self.target = ranking if settings.target == "greedy" else self.network.value_weights()
        self.tables = IdTables(settings.id_lr, settings.weight_decay, seed, SPREAD if settings.learns_ids else 0.0)
        self.weights = FlatWeights(self.network)
        self.optimiser = FlatAdam(self.weights.vector.numel(), settings.weight_decay)
        self._untrained: dict[int, list[tuple[str, int]]] = {}
        self._trained: list[tuple[str, int]] = []
        self._sampled = np.zeros(0, np.int64)
        self._good = agent_state.learned(self)

    @property
    def rows(self) -> int:
        """Rows in the buffer."""
        return len(self.replay)

    @property
    def inserted(self) -> int:
        """Rows ever put into the buffer."""
        return self.replay.inserted

    @property
    def untrained(self) -> int:
        """Rows that hold something no gradient has seen."""
        return self.replay.dirty

    def put_content(self, content_id: int, vector: Iterable[float] | np.ndarray | None, hidden: bool = False) -> None:
        """Set what is known of a content; rows that name it read the new vector from then on."""
        self.space.put(content_id, vector, hidden)

    def apply(self, changes: Sequence[RowChange]) -> None:
        """Write row changes into the buffer, in order."""
        for change in changes:
            match change:
                case transitions.Consumed():
                    self._consume(change)
                case transitions.Opened():
                    self._open(change)
                case transitions.Withdrawn():
                    self._withdraw(change)
                case transitions.Closed():
                    self._close(change)
                case transitions.Reopened():
                    self._reopen(change)
                case transitions.Organic():
                    self._add_organic(change)
                case transitions.Retracted():
                    self._retract(change)
                case transitions.Erased():
                    self._erase(change)

    def due(self, force: bool = False, replay_ratio: float | None = None) -> int:
        """Return how many rows the next update should take, 0 when none is due.

        Parameters
        ----------
        force
            Go over the replay ratio for rows that no gradient has seen yet, with a smaller batch: freshness.
        replay_ratio
            Cap to use instead of the settings', for a learner with a backlog.
        """
        eligible = self.replay.eligible_rows
        if self.rows < self.settings.learning_starts or not eligible:
            return 0
        batch = min(self.settings.batch_size, eligible)
        allowed = self.inserted * (self.settings.replay_ratio if replay_ratio is None else replay_ratio)
        if self.samples + batch <= allowed:
            return batch
        return min(batch, max(self.untrained, _FORCED_ROWS)) if force and self.untrained else 0

    def make_room(self) -> None:
        """Let the tables hold every content known by now; ``update`` and ``snapshot`` do so by themselves."""
        self.popularity.grow(len(self.space))
        self.tables.grow(len(self.space))

    def ready(self) -> bool:
        """Tell whether the replay ratio allows an update."""
        return self.due() > 0

    def update(self, batch_size: int | None = None) -> Report:
        """Take one gradient step and return what it did."""
        settings = self.settings
        slots = sample(self.replay, batch_size or settings.batch_size, self.rng, settings.recent_share)
        self._sampled = slots
        batch = thinned(gather(self.replay, slots, settings.reward), settings.history_dropout, self.rng)
        self.make_room()
        if settings.cql_weight:
            batch = replace(batch, offers=offers_of(self.replay, slots, self.popularity))
        draws = draw(batch, self.popularity.consumptions, settings.id_dropout, self.rng, settings.compared)
        outputs = forward(self.network, self.tables, self.space, batch, draws, self._centre)
        watched = outputs.hidden if self.updates % _DORMANCY_EVERY == 0 else ()
        continuation = self._continuation(batch)
        parts = loss_parts(outputs, continuation, batch, draws, self.settings)
        norm = self._step(parts["total"], outputs)
        self.samples += len(slots)
        finite = bool(np.isfinite(norm))
        if finite:
            self._mark_trained(slots)
        ages = self.replay.ages(slots)
        report = report_of(parts, outputs, continuation, batch, ages, self.settings, norm, finite)
        return replace(report, dormant=tuple(map(dormant_share, watched)))

    def trained(self) -> list[tuple[str, int]]:
        """Return, once each, interactions (event id, append ms) that were in a gradient since the last call."""
        done, self._trained = self._trained, []
        return done

    def snapshot(self) -> Snapshot:
        """Return a copy of everything that ranks, with the contents that learning has touched."""
        self.make_room()
        size = len(self.space)
        counts = self.popularity.consumptions[:size]
        touched = np.flatnonzero(self.settings.learns_ids & ((counts > 0) | self.tables.touched()[:size]))
        rows = torch.from_numpy(touched)
        content = self.tables.content.index_select(0, rows).numpy()
        return Snapshot(
            weights={name: tensor.detach().numpy().copy() for name, tensor in self.network.weights().items()},
            content_ids=self.space.ids[touched],
            user_rows=self.tables.user.index_select(0, rows).numpy(),
            content_rows=content[:, :ID_SIZE].copy(),
            biases=content[:, ID_SIZE].copy(),
            consumptions=counts[touched],
            config=make_config(
                self.space.vector_size,
                self.settings.consumption,
                self.settings.context_numbers,
                self.settings.reward.version,
                self.settings.gamma,
                self.exploration_boost,
            ),
        )

    def exposure(self, slates: int, skip: int = 0) -> Exposure:
        """Return what the newest ``slates`` rows showed, but for ``skip`` newer ones."""
        return exposure(self.replay, newest(self.replay, slates, skip))

    def keep(self) -> None:
        """Remember what has been learned as something to go back to."""
        self._good = agent_state.learned(self)

    def go_back(self) -> None:
        """Forget what was learned since the last ``keep``; rows, counts and the number of updates stay."""
        agent_state.relearn(self, self._good)

    def expel(self) -> list[Poisoned]:
        """Take the rows of the last update out whose gradient is not finite; ``go_back`` first."""
        return expel(self, self._sampled)

    def state(self, since: Mark = BEGINNING) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return a copy of everything the agent is: arrays by name, and the rest as JSON values.

        Of rows and contents only what changed since a mark, which an earlier state holds under that name.
        """
        return agent_state.save(self, since)

    @classmethod
    def restore(
        cls,
        settings: AgentSettings,
        arrays: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        earlier: Iterable[Mapping[str, np.ndarray]] = (),
    ) -> "Agent":
        """Return the agent whose ``state`` this was; it goes on bit for bit as that one would have.

        ``earlier`` gives the rows and contents that the state leaves out, oldest first.

        Raises
        ------
        ValueError
            The settings cannot hold that state, naming the one to change.
        """
        agent = cls(settings, int(meta["vector_size"]), int(meta["seed"]))
        agent_state.load(agent, arrays, meta, earlier)
        agent.keep()
        return agent

    def _open(self, row: transitions.Opened) -> None:
        if (key := key_of(row.row_id)) not in self.replay:
            self._insert(key, row.user_id, row.state, row.slate, row.log_propensities, row.candidates)

    def _insert(
        self,
        key: int,
        user_id: str,
        state: State,
        slate: Sequence[int],
        log_propensities: Sequence[float] = (),
        candidates: Sequence[int] = (),
        organic: bool = False,
    ) -> int:
        indices = self.space.ensure((*slate, *state.history, *candidates))
        shown, rest = indices[: len(slate)], indices[len(slate) :]
        self.popularity.grow(len(self.space))
        row = NewRow(
            history=rest[: len(state.history)],
            history_age_s=state.history_age_s,
            context=encode_context(state.context, self.settings.context_numbers) if state.context else None,
            slate=shown,
            log_counts=log_counts(self.popularity.consumptions[shown], self.popularity.centre),
            log_propensities=log_propensities,
            candidates=rest[len(state.history) :],
            user=key_of(user_id) if user_id else NOBODY,
        )
        slot = self.replay.insert(key, row, organic)
        self._untrained.pop(slot, None)
        return slot

    def _consume(self, change: transitions.Consumed) -> None:
        slot = self.replay.slot(key_of(change.row_id))
        if slot is None:
            self.lost += 1
            return
        self._amend(slot, change.content_id, change.terms, change.choice)
        self._untrained.setdefault(slot, []).append((change.event_id, change.append_ms))

    def _amend(self, slot: int, content_id: int, terms: Mapping[str, float], choice: bool) -> None:
        content = self.space.at(content_id)
        if self.replay.consume(slot, content, terms, choice):
            self.popularity.grow(len(self.space))
            self.popularity.add(content)

    def _withdraw(self, change: transitions.Withdrawn) -> None:
        slot = self.replay.slot(key_of(change.row_id))
        content = int(self.space.index((change.content_id,))[0])
        if slot is not None and content and self.replay.withdraw(slot, content):
            self.popularity.add(content, -1)

    def _close(self, change: transitions.Closed) -> None:
        slot = self.replay.slot(key_of(change.row_id))
        if slot is not None:
            next_key = None if change.next_row_id is None else key_of(change.next_row_id)
            self.replay.close(slot, next_key, change.gap_s)

    def _reopen(self, change: transitions.Reopened) -> None:
        slot = self.replay.slot(key_of(change.row_id))
        if slot is not None:
            self.replay.reopen(slot)

    def _add_organic(self, row: transitions.Organic) -> None:
        if (key := key_of(row.row_id)) not in self.replay:
            slot = self._insert(key, row.user_id, row.state, (row.content_id,), organic=True)
            self._amend(slot, row.content_id, row.terms, choice=True)
            self._untrained[slot] = [(row.row_id, row.append_ms)]

    def _retract(self, change: transitions.Retracted) -> None:
        slot = self.replay.slot(key_of(change.row_id))
        if slot is not None:
            self.popularity.add(int(self.replay.columns["slate"][slot, 0]), -1)
            self.replay.retract(key_of(change.row_id))
            self._untrained.pop(slot, None)

    def _erase(self, change: transitions.Erased) -> None:
        for slot in self.replay.erase(key_of(change.user_id)).tolist():
            self._untrained.pop(slot, None)

    @property
    def _centre(self) -> float:
        # Without ids a reader of snapshots knows no counts either: every content is at the zero point.
        return self.popularity.centre if self.settings.learns_ids else 0.0

    def _continuation(self, batch: Batch) -> Tensor:
        if self.settings.target == "onpolicy":
            return continuation_values(self.target, self.tables, self.space, batch, self.settings)
        offers, centre = next_offers(self.replay, batch, self.popularity), self._centre
        return greedy_continuation(
            self.network, self.target, self.tables, self.space, batch, offers, centre, self.settings
        )

    def _step(self, loss: Tensor, outputs: Outputs) -> float:
        leaves = outputs.leaves
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = (self.weights.take_gradient(), gradient_of(leaves.user), gradient_of(leaves.content))
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if np.isfinite(norm):
            if norm > self.settings.clip_norm:
                for gradient in gradients:
                    gradient.mul_(self.settings.clip_norm / norm)
            self.optimiser.step(self.weights.vector, gradients[0], self.settings.learning_rate(self.updates))
            self.tables.step(leaves.histories, gradients[1], leaves.contents, gradients[2])
            soft_update(self.target, dict(self.network.named_parameters()), self.settings.target_rate)
            self.updates += 1
        return norm

    def _mark_trained(self, slots: np.ndarray) -> None:
        self.replay.mark_trained(slots.tolist())
        for slot in slots.tolist():
            self._trained += self._untrained.pop(slot, ())
