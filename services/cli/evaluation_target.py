"""The policy that is asked about: from the log alone, or from a snapshot."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import orjson

from libs.adapters.ports import SnapshotMeta, SnapshotStore
from libs.errors import NoSnapshot, RefusedStart, SnapshotRejected
from libs.events.schema import Impression
from libs.events.topics import EVENTS
from libs.rl.action_space import ActionSpace
from libs.rl.logged_slates import LoggedSlates, logged_slates, policies, prefix_log_probabilities
from libs.rl.reward_model import consumption_of, expected_consumption
from libs.rl.scoring import Scorer
from libs.rl.slates import Consumption, Rule, Scores, slate_scores
from libs.rl.snapshot import Snapshot, decode
from libs.rl.transitions import State
from services.cli.evaluation_input import Entry
from services.learner.evaluation_rows import POSITIONS

Policy: TypeAlias = Literal["uniform", "logged", "exploit", "snapshot"]
POLICIES: Final = ("uniform", "logged", "exploit", "snapshot")


@dataclass(frozen=True, slots=True)
class Asked:
    """The target policy: what ranks, and how far it explores; None for temperature and ε as they were logged."""

    policy: Policy = "logged"
    rule: Rule = "value"
    temperature: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A snapshot, and what is known of how it came about; ``meta`` is None for a bare file."""

    snapshot: Snapshot
    meta: SnapshotMeta | None
    name: str

    def trained_on(self, entry: Entry) -> bool:
        """Tell whether these weights contain an event; a snapshot that cannot say is taken to contain all."""
        if self.meta is None:
            return True
        offset = self.meta.offsets.get(f"{EVENTS}:{entry.partition}")
        if entry.offset is not None and offset is not None:
            return entry.offset < offset
        return entry.append_ms <= self.meta.created_ms

    def on(self, cluster_id: str) -> "Loaded":
        """Return it for events of one Kafka cluster: offsets of another say nothing there, times have to do."""
        if self.meta is None or self.meta.extra.get("cluster_id", cluster_id) == cluster_id:
            return self
        return replace(self, meta=replace(self.meta, offsets={}))

    @property
    def remedy(self) -> str:
        """Say which events may be used, as options."""
        if self.meta is None:
            return "a bare file does not say what it was trained on"
        offsets = {name.rpartition(":")[2]: at for name, at in self.meta.offsets.items() if name.startswith(EVENTS)}
        after = ",".join(f"{partition}:{at}" for partition, at in sorted(offsets.items())) or str(
            self.meta.created_ms + 1
        )
        return f"only events from `--from {after}` on are new to it"


class Target:
    """Gives the probabilities of logged slates under the policy that is asked about.

    Parameters
    ----------
    loaded
        The snapshot that ranks, or serves as the reward model of the doubly robust estimate; None without one.
    space
        Text vectors of contents.
    """

    def __init__(self, asked: Asked, loaded: Loaded | None, space: ActionSpace, seed: int = 0) -> None:
        self._asked = asked
        self._rng = np.random.default_rng(seed)
        self._space = space
        self._scorer: Scorer | None = None
        self._consumption: Consumption = "multi"
        if loaded is not None:
            space.ensure(loaded.snapshot.content_ids.tolist())
            self._scorer = Scorer(loaded.snapshot, space)
            self._consumption = "single" if loaded.snapshot.consumption == "single" else "multi"
        self.expected: list[tuple[float, float]] = []

    @property
    def models_rewards(self) -> bool:
        """Whether there is a choice head to expect rewards with."""
        return self._scorer is not None

    def weigh(self, events: Sequence[Impression]) -> tuple[LoggedSlates, np.ndarray]:
        """Return the slates and their prefix log-probabilities; what the model expects of them is kept in order."""
        predicted = [self._predict(event) for event in events]
        logged = logged_slates(events, POSITIONS, self._scores(events, predicted))
        temperature, epsilon = self._exploration(logged)
        for at, scores in enumerate(predicted):
            if scores is not None:
                self._expect(scores, logged, at, temperature[at], epsilon[at])
        if self._asked.policy == "uniform":
            return logged, policies(logged)["uniform"]
        return logged, prefix_log_probabilities(logged, temperature, epsilon)

    def _predict(self, event: Impression) -> Scores | None:
        if self._scorer is None:
            return None
        state = State(event.history, event.history_age_s, event.context)
        return self._scorer.score(state, self._space.index(event.candidates))

    def _scores(self, events: Sequence[Impression], predicted: Sequence[Scores | None]) -> list[np.ndarray] | None:
        if self._asked.policy != "snapshot":
            return None
        pairs = zip(events, predicted, strict=True)
        return [
            slate_scores(scores, self._asked.rule, self._consumption, len(event.slate))
            for event, scores in pairs
            if scores is not None
        ]

    def _exploration(self, logged: LoggedSlates) -> tuple[np.ndarray, np.ndarray]:
        asked, everybody = self._asked, np.ones(len(logged.counts))
        halved = asked.policy == "exploit"
        temperature = logged.temperature / 2 if halved else logged.temperature
        epsilon = 0 * everybody if halved else logged.epsilon
        if asked.policy == "uniform":
            return everybody, everybody
        return (
            temperature if asked.temperature is None else asked.temperature * everybody,
            epsilon if asked.epsilon is None else asked.epsilon * everybody,
        )

    def _expect(self, scores: Scores, logged: LoggedSlates, at: int, temperature: float, epsilon: float) -> None:
        positions = logged.positions[at][logged.positions[at] >= 0]
        ranked = logged.scores[at, : logged.counts[at]]
        target = expected_consumption(
            scores.choice, ranked, float(temperature), float(epsilon), len(positions), self._consumption, self._rng
        )
        self.expected.append((consumption_of(scores.choice, positions, self._consumption), target))


async def load_snapshot(store: SnapshotStore, version: int | None, vector_size: int) -> Loaded:
    """Return one kept snapshot, the current one without ``version``; raises ``RefusedStart``."""
    if version is None:
        current = await store.current()
        if current is None:
            raise RefusedStart("no snapshot was published yet: start the learner, or give one with --snapshot FILE")
        version = current.version
    try:
        found, blob = await store.load(version)
    except NoSnapshot as error:
        kept = ", ".join(map(str, await store.versions())) or "none"
        raise RefusedStart(f"--version {version}: {error}; kept are: {kept}") from error
    return _decoded(blob, found.sha256, found, f"snapshot {found.version}", vector_size)


def read_snapshot(path: Path, vector_size: int) -> Loaded:
    """Return the snapshot in a file: a bare ``.safetensors`` blob, or what a serving worker keeps on disk."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefusedStart(f"--snapshot {path}: {error.strerror}") from error
    meta = None
    if content[:1] == b"{":  # a worker's file: one line of JSON with the meta, then the blob
        header, _, content = content.partition(b"\n")
        try:
            meta = SnapshotMeta(**orjson.loads(header))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise RefusedStart(f"--snapshot {path}: its first line is not a snapshot's meta: {error}") from error
    return _decoded(content, hashlib.sha256(content).hexdigest(), meta, path.name, vector_size)


def _decoded(blob: bytes, sha256: str, meta: SnapshotMeta | None, name: str, vector_size: int) -> Loaded:
    try:
        return Loaded(decode(blob, sha256, vector_size), meta, name)
    except SnapshotRejected as error:
        raise RefusedStart(f"{name} cannot be used: {error}. MOARD_VECTOR_SIZE is {vector_size}") from error
