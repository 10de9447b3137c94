"""Every ranker on the same requests: clicks by fifths, and by how much moard is ahead of each, by user.

Shared by the benches ``movielens``, ``movielens-uniform`` and ``movielens-new``, which differ in the stream.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classic import Classic
from benchmarks.differences import differences
from benchmarks.factorisation import Factorisation, FactorisationSettings
from benchmarks.harness import Bench
from benchmarks.movielens_play import EXPLORATION, REFRESH_UPDATES, SETTINGS, VECTOR_SIZE, Play, text_vectors
from benchmarks.movielens_rivals import play
from benchmarks.paired import paired_interval
from examples.movielens.dataset import MovieLens
from examples.movielens.protocol import (
    FIFTHS,
    Negatives,
    Turn,
    by_fifths,
    oracle_clicks,
    popularity_clicks,
    random_clicks,
    requests_of,
    turns,
)
from libs.rl.agent import Agent
from libs.rl.settings import AgentSettings
from libs.rl.slates import Exploration, Rule

SEEDS = 3
SHORT_TURNS = 6_000
OURS = "moard"
REGULARISATIONS = (10.0, 30.0)  # the first was best with negatives by popularity, the second with uniform ones
FACTORISATIONS = tuple(f"factorisation, λ = {weight:.0f}" for weight in REGULARISATIONS)
RIVALS = ("random", "popularity", "classic", *FACTORISATIONS)
TWINS = ("moard, γ = 0", "moard, rule p")

Clicks = Mapping[str, NDArray[np.float64]]


@dataclass(slots=True)
class Pooled:
    """Clicks of the measured requests of several seeds, one after the other."""

    clicks: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    user_ids: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, clicks: Clicks, user_ids: NDArray[np.int64], measured: NDArray[np.bool_]) -> None:
        """Take in the measured requests of one seed."""
        self.user_ids.append(user_ids[measured])
        for name, series in clicks.items():
            self.clicks.setdefault(name, []).append(series[measured])

    def all(self) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64]]:
        """Return what every seed had, as the requests of one stream."""
        complete = {name: parts for name, parts in self.clicks.items() if len(parts) == len(self.user_ids)}
        return {name: np.concatenate(parts) for name, parts in complete.items()}, np.concatenate(self.user_ids)


def run_protocol(
    bench: Bench,
    data: MovieLens,
    negatives: Negatives,
    settings: AgentSettings = SETTINGS,
    exploration: Exploration = EXPLORATION,
) -> None:
    """Record the protocol of rl.md §9 with one kind of negatives, for each seed and for all together.

    The myopic twins play the first seed alone: they answer to no target here.
    """
    announce(bench, settings, exploration)
    pooled = Pooled()
    for seed in seeds(bench):
        stream = turns(data.ratings, negatives, seed)[: SHORT_TURNS if bench.short else None]
        twins = seed == bench.seed
        clicks = clicks_of_all(bench, data, stream, seed, twins=twins, settings=settings, exploration=exploration)
        for name, series in clicks.items():
            for number, mean in enumerate(by_fifths(series), start=1):
                bench.record(name, f"clicks per request, fifth {number}", mean, "clicks", len(series) // FIFTHS, seed)
        last, user_ids = last_fifth(stream), users_of(stream)
        record_leads(bench, {name: series[last] for name, series in clicks.items()}, user_ids[last], "last fifth", seed)
        pooled.add(clicks, user_ids, last)
    record_pooled(bench, pooled, "last fifth")


def announce(bench: Bench, settings: AgentSettings = SETTINGS, exploration: Exploration = EXPLORATION) -> None:
    """Say which settings differ from the defaults, and keep torch to one thread."""
    torch.set_num_threads(1)
    bench.note(f"{differences(settings)}; {exploration}; a new snapshot each {REFRESH_UPDATES} updates")
    bench.note(f"factorisation: implicit's ALS, {FactorisationSettings()}, and regularisation as named")


def seeds(bench: Bench) -> range:
    """Return the seeds of a run."""
    return range(bench.seed, bench.seed + (1 if bench.short else SEEDS))


def clicks_of_all(
    bench: Bench,
    data: MovieLens,
    stream: Sequence[Turn],
    seed: int,
    twins: bool = True,
    settings: AgentSettings = SETTINGS,
    exploration: Exploration = EXPLORATION,
) -> dict[str, NDArray[np.float64]]:
    """Return the clicks of each request for every ranker, on one stream; ``twins`` are moard's myopic forms."""
    texts = text_vectors(data.contents)

    def shown(name: str) -> Iterator[Turn]:
        return bench.progress(stream, f"{name}, seed {seed}", total=len(stream))

    def agent(name: str, gamma: float = settings.gamma, rule: Rule = "value") -> NDArray[np.float64]:
        ranker = Play(Agent(replace(settings, gamma=gamma), VECTOR_SIZE, seed), rule, exploration, seed)
        ranker.put_contents(texts)
        return ranker.through(shown(name))

    users, contents = int(data.ratings.user_ids.max()) + 1, max(texts) + 1

    def factorisation(name: str, regularisation: float) -> NDArray[np.float64]:
        rival = Factorisation(users, contents, FactorisationSettings(regularisation=regularisation), seed)
        return play(rival, shown(name))

    return {
        "random": random_clicks(stream),
        "popularity": popularity_clicks(stream),
        "oracle": oracle_clicks(stream),
        "classic": play(Classic(texts, seed), shown("classic")),
        **{name: factorisation(name, weight) for name, weight in zip(FACTORISATIONS, REGULARISATIONS, strict=True)},
        OURS: agent(OURS),
        **({TWINS[0]: agent("γ = 0", gamma=0.0), TWINS[1]: agent("rule p", rule="p")} if twins else {}),
    }


def users_of(stream: Sequence[Turn]) -> NDArray[np.int64]:
    """Return who makes each request."""
    return np.array([request.user_id for request in requests_of(stream)], np.int64)


def last_fifth(stream: Sequence[Turn]) -> NDArray[np.bool_]:
    """Return which requests are the last fifth, as ``by_fifths`` cuts them."""
    requests = len(requests_of(stream))
    return np.arange(requests) >= requests - len(np.array_split(np.arange(requests), FIFTHS)[-1])


def record_leads(
    bench: Bench, clicks: Clicks, user_ids: NDArray[np.int64], part: str, seed: int | None, variant: str = OURS
) -> None:
    """Record by how much moard is ahead of each other ranker on some requests: mean, and its 95 % interval by user."""
    for rival in (name for name in (*RIVALS, *TWINS) if name in clicks):
        lead = paired_interval(clicks[OURS], clicks[rival], user_ids)
        metric = f"clicks per request over {rival}, {part}"
        for bound, value in (("", lead.difference), (", low 95 %", lead.low), (", high 95 %", lead.high)):
            bench.record(variant, metric + bound, value, "clicks", len(user_ids), seed)


def record_pooled(bench: Bench, pooled: Pooled, part: str) -> None:
    """Record clicks and leads over all seeds: the same users, other negatives."""
    clicks, user_ids = pooled.all()
    variant = f"{OURS}, {len(pooled.user_ids)} seeds"
    bench.record(variant, f"clicks per request, {part}", float(clicks[OURS].mean()), "clicks", len(user_ids))
    record_leads(bench, clicks, user_ids, part, None, variant)
