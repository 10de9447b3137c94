"""VW's simulated news personalisation, with tastes that change: the product's own agent beside VW on the same visits.

A decision is a slate of one of seven contents; who comes when is two strings of the context, hashed like any other. VW
runs as in its tutorial, ``--cb_explore_adf -q UA``, and learns each decision at once, as the agent does: settings only.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import torch
import vowpalwabbit
from numpy.typing import NDArray

from benchmarks.differences import differences
from benchmarks.harness import Bench
from benchmarks.news_world import CONTENTS, FIRST, KNOWN, UNKNOWN, Taste, Visit, visits
from libs.rl.agent import Agent
from libs.rl.scoring import Scorer
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration, plackett_luce, slate_scores
from libs.rl.transitions import Closed, Consumed, Opened, RowChange, State

SEEDS: Final = 10
DECISIONS: Final = 5_000
LAST: Final = 500
"""Decisions at the end that say where a ranker has arrived."""

SCHEDULES: Final[dict[str, tuple[Taste, ...]]] = {
    "one flip": (FIRST, KNOWN),
    "four flips": (FIRST, KNOWN, UNKNOWN, FIRST, KNOWN),
}

SETTINGS: Final = AgentSettings(
    gamma=0.0,  # nothing that is shown changes who comes next
    learning_starts=1,
    batch_size=32,
    replay_ratio=32.0,  # one update a decision
    capacity=200,  # 50 rows for each user and time: what they liked before that is forgotten
    lr=3e-3,
    lr_final=3e-3,
    # Without decay a run of misses drives every logit to -7, where nothing is left to learn from the next miss; with
    # it, what has not been shown lately goes back towards "may be liked".
    weight_decay=3.0,
    id_lr=1e-5,  # the vector says all there is to know of a content
)
EXPLORATION: Final = Exploration(temperature=0.2, epsilon=0.005)

_IDS: Final = tuple(range(1, len(CONTENTS) + 1))


class Ranker(Protocol):
    """Shows one content, and is told whether it was clicked."""

    def show(self, visit: Visit) -> int:
        """Return the position shown."""

    def learn(self, visit: Visit, shown: int, clicked: bool) -> None:
        """Take in what came of it."""


def run(bench: Bench) -> None:
    """Record click rates of VW, the agent and chance, on the same visits."""
    torch.set_num_threads(1)
    bench.note(f"a snapshot after each decision; {differences(SETTINGS)}; {EXPLORATION}; rule p")
    seeds = range(bench.seed, bench.seed + (2 if bench.short else SEEDS))
    names = [(schedule, ranker) for schedule in SCHEDULES for ranker in RANKERS]
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in names}
    for seed in bench.progress(seeds, "seeds", len(seeds)):
        for name in names:
            rates[name].append(_measure(bench, *name, seed))
    for schedule in SCHEDULES:
        _compare(bench, schedule, {ranker: np.array(rates[schedule, ranker]) for ranker in RANKERS})


def _measure(bench: Bench, schedule: str, name: str, seed: int) -> tuple[float, float]:
    """Return the click rate over all decisions and over the last."""
    tastes = SCHEDULES[schedule]
    stream = visits(tastes, DECISIONS // len(tastes), seed)
    began_s = time.process_time()
    clicked = clicks(RANKERS[name](seed), stream)
    variant = f"{name}, {schedule}"
    bench.record(variant, "click rate", clicked.mean(), "clicks", DECISIONS, seed)
    bench.record(variant, "click rate at the end", clicked[-LAST:].mean(), "clicks", LAST, seed)
    for number, phase in enumerate(np.split(clicked, len(tastes)), start=1):
        bench.record(variant, f"click rate, taste {number}", phase.mean(), "clicks", len(phase), seed)
    bench.record(variant, "processor time", time.process_time() - began_s, "s", DECISIONS, seed)
    return float(clicked.mean()), float(clicked[-LAST:].mean())


def _compare(bench: Bench, schedule: str, rates: dict[str, NDArray[np.float64]]) -> None:
    for name, measured in rates.items():
        for metric, mean in zip(("click rate", "click rate at the end"), measured.mean(axis=0), strict=True):
            bench.record(f"{name}, {schedule}", f"{metric}, mean over seeds", mean, "clicks", len(measured))
    ahead = rates["moard"] - rates["VW, SquareCB"]
    for metric, series in zip(("click rate", "click rate at the end"), ahead.T, strict=True):
        variant, error = f"moard - SquareCB, {schedule}", series.std(ddof=1) / np.sqrt(len(series))
        bench.record(variant, f"{metric}, mean of pairs", series.mean(), "clicks", len(series))
        bench.record(variant, f"{metric}, standard error", error, "clicks", len(series))


class Chance:
    """Shows anything."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 5])

    def show(self, visit: Visit) -> int:  # noqa: ARG002 - whoever comes
        """Return any position."""
        return int(self.rng.integers(len(CONTENTS)))

    def learn(self, visit: Visit, shown: int, clicked: bool) -> None:
        """Learn nothing."""


class Vw:
    """VW by its tutorial."""

    def __init__(self, explorer: str, seed: int) -> None:
        self.workspace = vowpalwabbit.Workspace(f"--cb_explore_adf -q UA --quiet {explorer}")
        self.rng = np.random.default_rng([seed, 5])
        self.probability = 1.0

    def show(self, visit: Visit) -> int:
        """Draw a position from VW's probabilities."""
        weights = np.array(self.workspace.predict(example(visit)), np.float64)
        shown = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        self.probability = float(weights[shown])
        return shown

    def learn(self, visit: Visit, shown: int, clicked: bool) -> None:
        """Learn the cost of what was shown, at the probability it was shown with."""
        self.workspace.learn(example(visit, shown, f"0:{-float(clicked)}:{self.probability} "))


def example(visit: Visit, shown: int = -1, label: str = "") -> str:
    """Return a decision in VW's text format, ``label`` at the content shown."""
    contents = [f"{label if at == shown else ''}|Action article={name}" for at, name in enumerate(CONTENTS)]
    return "\n".join([f"shared |User user={visit.user} time_of_day={visit.time_of_day}", *contents])


class Moard:
    """The product's own agent, scorer and slates; a new snapshot after each decision."""

    def __init__(self, seed: int) -> None:
        self.agent = Agent(SETTINGS, len(CONTENTS), seed)
        for content_id, vector in zip(_IDS, np.eye(len(CONTENTS), dtype=np.float32), strict=True):
            self.agent.put_content(content_id, vector)
        self.rng = np.random.default_rng([seed, 5])
        self.scorer = Scorer(self.agent.snapshot(), self.agent.space)
        self.decisions = 0

    def show(self, visit: Visit) -> int:
        """Draw a slate of one."""
        said = self.scorer.score(_state(visit), self.agent.space.index(_IDS))
        scores = slate_scores(said, "p", SETTINGS.consumption, 1)
        return int(plackett_luce(scores, EXPLORATION, 1, self.rng).positions[0])

    def learn(self, visit: Visit, shown: int, clicked: bool) -> None:
        """Write one row, closed at once, and take the updates that are due."""
        row, content_id = f"r{self.decisions}", _IDS[shown]
        self.decisions += 1
        changes: list[RowChange] = [Opened(row, _state(visit), (content_id,)), Closed(row)]
        if clicked:
            changes.insert(1, Consumed(row, content_id, {"click": 1.0}, True, "", 0))
        self.agent.apply(changes)
        while batch := self.agent.due():
            self.agent.update(batch)
        self.scorer = Scorer(self.agent.snapshot(), self.agent.space)


RANKERS: Final[dict[str, Callable[[int], Ranker]]] = {
    "chance": Chance,
    "VW, ε = 0.2": lambda seed: Vw("--epsilon 0.2", seed),
    "VW, SquareCB": lambda seed: Vw("--squarecb", seed),
    "moard": Moard,
}


def clicks(ranker: Ranker, stream: Sequence[Visit]) -> NDArray[np.bool_]:
    """Play the visits; return which of the shown contents were clicked."""
    clicked = np.zeros(len(stream), np.bool_)
    for turn, visit in enumerate(stream):
        shown = ranker.show(visit)
        clicked[turn] = shown == visit.likes
        ranker.learn(visit, shown, bool(clicked[turn]))
    return clicked


def _state(visit: Visit) -> State:
    return State(context={"user": visit.user, "time_of_day": visit.time_of_day})
