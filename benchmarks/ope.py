"""Off-policy estimates where the answer is known: Open Bandit's published figure, simulated slates, a log's own policy.

And what evaluation costs the learner for each event, beside the join. All of it takes about four minutes on one core.
"""

import time
from collections import defaultdict

import numpy as np
from prometheus_client import CollectorRegistry

from benchmarks import open_bandit, simulated_slates
from benchmarks.harness import Bench, interleave
from libs.adapters.telemetry import LearnerMetrics
from libs.events.codec import decode_event, encode
from libs.events.schema import Impression, Interaction
from libs.rl.logged_slates import logged_slates, prefix_log_probabilities
from libs.rl.off_policy import Tally, estimates, tally
from libs.rl.slates import Exploration, plackett_luce
from libs.rl.transitions import RowChange
from services.learner.attribution import Arrival, Attribution
from services.learner.evaluation import Evaluation
from services.learner.evaluation_rows import Goal
from services.learner.windows import JoinRules

ESTIMATORS = ("ips", "snips", "rips", "snrips", "dr")
REPETITIONS = {2_000: 200, 20_000: 50}
SHORT_REPETITIONS = {2_000: 10}
OWN_REQUESTS = 2_000
EVENTS = 40_000
POLL = 2_000  # records the learner takes in one turn under load
NOW_MS = 1_750_000_000_000


def run(bench: Bench) -> None:
    """Record estimates beside the truth, and costs."""
    _open_bandit(bench)
    _simulated(bench)
    bench.record("own log, own policy", "largest |weight − 1|", own_weights(OWN_REQUESTS, bench.seed), "", OWN_REQUESTS)
    _cost(bench)


def _open_bandit(bench: Bench) -> None:
    data = open_bandit.load()
    found = estimates(bandit_tally(data), ("ips", "snips"))
    for name, estimate in found.items():
        if estimate.value is not None:
            published = " (obp prints 0.004553)" if name == "ips" else ""
            bench.record("Open Bandit, Thompson on random", name + published, estimate.value, "clicks", 10_000)
    weights = found["ips"].weights
    bench.record("Open Bandit, Thompson on random", "effective sample", weights.ess, "rows", weights.n)


def bandit_tally(data: open_bandit.OpenBandit) -> Tally:
    """Sum up the sample: each row is one position, and a user of its own."""
    weights = data.thompson[data.contents, data.positions] / data.propensities
    count = len(data.clicks)
    with np.errstate(divide="ignore"):  # a content that Thompson sampling never shows has weight 0
        log_weights = np.log(weights)[:, None]
    return tally(data.clicks[:, None], np.ones((count, 1), np.bool_), log_weights, np.arange(count), count)


def _simulated(bench: Bench) -> None:
    rng = np.random.default_rng(bench.seed)
    truths = {name: simulated_slates.truth(name, rng) for name in simulated_slates.NAMES}
    for requests, repetitions in (SHORT_REPETITIONS if bench.short else REPETITIONS).items():
        errors, sizes = simulated_errors(requests, truths, rng, bench, repetitions)
        for (name, estimator), found in errors.items():
            variant = f"{requests:,} requests, {name} ({truths[name]:.3f})"
            given = np.array([each for each in found if each is not None])
            if len(given):
                bench.record(variant, f"{estimator} RMSE", 100 * np.sqrt(np.mean(given**2)), "%", len(given))
            if len(given) < len(found):
                bench.record(variant, f"{estimator} refused", 100 * (1 - len(given) / len(found)), "%", len(found))
            if estimator in ("ips", "snrips"):
                size = float(np.mean(sizes[name, estimator]))
                bench.record(variant, f"{estimator} effective sample", size, "requests", len(found))


Errors = dict[tuple[simulated_slates.Name, str], list[float | None]]
Sizes = dict[tuple[simulated_slates.Name, str], list[float]]


def simulated_errors(
    requests: int, truths: dict[simulated_slates.Name, float], rng: np.random.Generator, bench: Bench, repetitions: int
) -> tuple[Errors, Sizes]:
    """Return relative errors, None for refusals, and effective sample sizes, by policy and estimator."""
    errors: Errors = defaultdict(list)
    sizes: Sizes = defaultdict(list)
    for _ in bench.progress(range(repetitions), f"{requests:,} requests", total=repetitions):
        log = simulated_slates.Log.draw(requests, rng)
        for name, value in truths.items():
            for estimator, found in estimates(log.tally(name, rng), ESTIMATORS, resamples=0).items():
                errors[name, estimator].append(None if found.value is None else found.value / value - 1)
                sizes[name, estimator].append(found.weights.ess)
    return errors, sizes


def own_weights(requests: int, seed: int) -> float:
    """Return how far the weights of a log under its own policy are from one: drawn, encoded, decoded, recomputed."""
    rng = np.random.default_rng(seed)
    events = [_impression(f"i{number}", "ann", rng) for number in range(requests)]
    read = [event for event in (decode_event(encode(event)) for event in events) if isinstance(event, Impression)]
    logged = logged_slates(read, 12)
    again = prefix_log_probabilities(logged, logged.temperature, logged.epsilon)
    return float(np.abs(np.exp(again - logged.log_propensities) - 1)[logged.shown].max())


def _impression(event_id: str, user_id: str, rng: np.random.Generator) -> Impression:
    """Return what serving logs: six of a hundred candidates, with predictions."""
    exploration = Exploration()
    drawn = plackett_luce(rng.normal(size=100).astype(np.float32), exploration, 6, rng)
    return Impression(
        event_id=event_id,
        user_id=user_id,
        slate=tuple(drawn.positions.tolist()),
        candidates=tuple(range(100)),
        scores=tuple(drawn.scores.tolist()),
        log_propensities=tuple(drawn.log_propensities.tolist()),
        choice=tuple(rng.normal(size=6).tolist()),
        advantage=tuple(rng.normal(size=6).tolist()),
        value=1.0,
        continuation=0.5,
        policy="value",
        arm=drawn.arm,
        temperature=exploration.temperature,
        epsilon=exploration.epsilon,
    )


def _cost(bench: Bench) -> None:
    """Time join and evaluation of the same arrivals in turn, in processor time: the neighbours disturb it less."""
    count = EVENTS // (4 if bench.short else 1)
    arrivals = _arrivals(count, np.random.default_rng(bench.seed))
    compared = interleave({"join": lambda: _join_s(arrivals)[0], "evaluation": lambda: _join_s(arrivals)[1]}, 3)
    for variant in ("join", "evaluation"):
        bench.record(f"learner, {variant}", "cost of an event", 1e6 * compared.median(variant) / count, "µs", count)
    evaluation = _join_s(arrivals)[2]
    began = time.thread_time()
    evaluation.show(0)
    bench.record("learner, evaluation", "cost of a refresh, each 10 s", 1e3 * (time.thread_time() - began), "ms")


def _arrivals(count: int, rng: np.random.Generator) -> list[Arrival]:
    arrivals = []
    for number in range(count // 2):
        user_id, shown_ms = f"user-{number % 3_000}", NOW_MS + 2 * number
        shown = _impression(f"i{number}", user_id, rng)
        click = Interaction(
            event_id=f"c{number}", user_id=user_id, kind="click", content_id=shown.slate[0], impression_id=f"i{number}"
        )
        arrivals += [Arrival(0, shown_ms, shown), Arrival(0, shown_ms + 1, click)]
    return arrivals


def _join_s(arrivals: list[Arrival]) -> tuple[float, float, Evaluation]:
    """Return processor seconds of the join and of evaluation."""
    attribution, rules = Attribution(JoinRules()), JoinRules()
    metrics = LearnerMetrics(CollectorRegistry(), [])
    evaluation = Evaluation(Goal(), metrics.evaluation, 20_000, rules.windows.final_ms, clock_s=lambda: 0.0)
    joined_s = evaluated_s = 0.0
    for start in range(0, len(arrivals), POLL):
        batch = arrivals[start : start + POLL]
        began = time.thread_time()
        changes: list[RowChange] = attribution.observe(batch)
        joined = time.thread_time()
        evaluation.observe(batch, changes, attribution.watermark_ms)
        joined_s, evaluated_s = joined_s + joined - began, evaluated_s + time.thread_time() - joined
    return joined_s, evaluated_s, evaluation
