"""Evaluation on a small stream, through the join: what was promised, what came, what other policies are worth."""

import math
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.telemetry import LearnerMetrics
from libs.events.schema import Event, Impression
from libs.rl.rewards import RewardSpec
from libs.rl.slates import Exploration
from services.learner import evaluation
from services.learner.attribution import Arrival, Attribution
from services.learner.evaluation import Evaluation
from services.learner.evaluation_rows import Goal
from services.learner.windows import JoinRules
from tests.builders import NOW_MS, drawn, impression, interaction

FINAL_MS = JoinRules().windows.final_ms


class Stream:
    """One partition through the join into the evaluation; ``restart`` replaces the process."""

    def __init__(self, window: int = 1_000, **goal: Any) -> None:
        self.goal = Goal(**goal)
        self.window = window
        self.attribution = Attribution(JoinRules())
        self.now_ms = NOW_MS
        self.restart()

    def restart(self) -> None:
        self.registry = CollectorRegistry()
        metrics = LearnerMetrics(self.registry, [])
        self.evaluation = Evaluation(self.goal, metrics.evaluation, self.window, FINAL_MS, clock_s=lambda: 0.0)

    def put(self, *events: Event, after_ms: int = 1_000) -> None:
        self.now_ms += after_ms
        arrivals = [Arrival(0, self.now_ms, event) for event in events]
        changes = self.attribution.observe(arrivals)
        self.evaluation.observe(arrivals, changes, self.attribution.watermark_ms)

    def silence(self) -> None:
        """Let every window pass."""
        self.now_ms += FINAL_MS + 1
        changes = self.attribution.advance({0: self.now_ms})
        self.evaluation.observe([], changes, self.attribution.watermark_ms)

    def metric(self, name: str, span: str = "window", **labels: str) -> float:
        self.evaluation.show(self.attribution.watermark_ms)
        found = self.registry.get_sample_value(f"moard_learner_{name}", {**labels, "span": span})
        assert found is not None
        return found

    def outcomes(self) -> dict[str, int]:
        return {name: count for name, count in self.evaluation.outcomes.items() if count}


def shown(event_id: str, user: str = "ann", slate: tuple[int, ...] = (1, 2), **fields: Any) -> Impression:
    """Return what a snapshot showed greedily, with its predictions: consumed at even chance, worth 1 each."""
    values: dict[str, Any] = {"choice": (0.0,) * len(slate), "advantage": (1.0,) * len(slate)}
    values |= {"value": 1.0, "continuation": 0.0, "timestamp_ms": None}
    return impression(user, slate, event_id=event_id, **values | fields)


def three_of_eight(event_id: str, user: str, rng: np.random.Generator) -> Impression:
    """Return a slate drawn as serving does, the first contents preferred."""
    scores = np.linspace(1, 0, 8).tolist()
    return drawn(scores, 3, rng, Exploration(1.0, 0.1), user_id=user, event_id=event_id, timestamp_ms=None)


def click(event_id: str, content_id: int = 1, user: str = "ann", **fields: Any) -> Event:
    return interaction(user, content_id, impression_id=event_id, timestamp_ms=None, **fields)


def play(stream: Stream, requests: int, seed: int = 0) -> None:
    """Let fifty users see drawn slates and click the first content whenever it is shown, the others now and then."""
    rng = np.random.default_rng(seed)
    for number in range(requests):
        user = f"user-{number % 50}"
        event = three_of_eight(f"s{seed}i{number}", user, rng)
        clicked = [at for at in event.slate if rng.random() < (0.9 if at == 1 else 0.1)]
        stream.put(event, *(click(event.event_id, at, user) for at in clicked))
    stream.silence()


def test_choice_predictions_are_judged_when_the_row_closes() -> None:
    stream = Stream()
    stream.put(shown("i1", choice=(math.log(4), math.log(1 / 4))))
    stream.put(click("i1", 1))
    assert math.isnan(stream.metric("choice_quality", measure="logloss"))
    stream.put(shown("i2"))
    assert stream.metric("choice_quality", measure="logloss") == pytest.approx(-math.log(0.8))
    assert stream.metric("choice_quality", measure="normalised_logloss") == pytest.approx(-math.log2(0.8))
    assert stream.metric("choice_quality", measure="auc") == 1.0
    assert stream.metric("choice_quality", measure="calibration_error") == pytest.approx(0.2)
    assert stream.metric("evaluation_rows") == 1


def test_a_late_click_amends_what_is_in_the_window() -> None:
    stream = Stream()
    stream.put(shown("i1"))
    stream.put(shown("i2"))
    assert stream.metric("choice_quality", measure="base_rate") == 0.0
    stream.put(click("i1", 2))
    assert stream.metric("choice_quality", measure="base_rate") == 0.5


def test_returns_are_those_of_the_story_and_the_slope_says_what_values_mean() -> None:
    stream = Stream(gamma=0.5, tau_s=10.0)
    # Three requests of two users, 10 s apart: rewards 1, 0, 2 and 0, 0, 0, so that returns are 1½, 1, 2 and nothing.
    for number, (clicks, promise) in enumerate([((1,), 3.0), ((), 2.0), ((1, 2), 4.0)]):
        stream.put(shown(f"a{number}", value=promise), *(click(f"a{number}", at) for at in clicks), after_ms=5_000)
        stream.put(shown(f"b{number}", "bob", value=0.0), after_ms=5_000)
    assert math.isnan(stream.metric("value_calibration_slope", prediction="u"))
    stream.silence()
    assert stream.metric("value_calibration_slope", prediction="u") == pytest.approx(0.5, rel=1e-5)


def test_q_of_what_was_consumed_is_measured_by_its_reward_and_what_followed() -> None:
    stream = Stream(gamma=0.5, tau_s=10.0)
    stream.put(shown("i1", continuation=1.0, advantage=(0.5, 9.0)), click("i1", 1))
    stream.put(shown("i2", continuation=0.0, advantage=(9.0, 4.0)), click("i2", 2), after_ms=10_000)
    stream.silence()
    # Q̄ 1½ and 4 were promised; 1 + ½·1 and 1 came.
    assert stream.metric("value_calibration_slope", prediction="q") == pytest.approx(-0.5 / 2.5)


def test_a_withdrawn_click_counts_where_it_ends_up() -> None:
    stream = Stream()
    stream.put(shown("i1"))
    stream.put(interaction("ann", 1, event_id="c", timestamp_ms=None), after_ms=4_000)
    stream.put(shown("i3"), after_ms=1_000)
    stream.put(shown("i2", timestamp_ms=NOW_MS + 3_000), after_ms=1_000)
    stream.silence()
    rows = stream.evaluation._rows
    consumed = {rows.id_of(int(slot)): bool(rows._consumed[slot].any()) for slot in rows.closed_slots()}
    assert consumed == {"i1": False, "i2": True, "i3": False}
    assert stream.metric("evaluation_rows") == 3  # the first was closed twice: by the third, then by the second


def test_other_policies_are_weighed_by_what_the_log_says() -> None:
    stream = Stream(reward=RewardSpec({"click": 1.0}))
    play(stream, 1_500)
    logged = stream.metric("logged_policy_value")
    for estimator in ("ips", "snrips"):
        uniform = stream.metric("policy_value", policy="uniform", estimator=estimator, stat="value")
        exploit = stream.metric("policy_value", policy="exploit", estimator=estimator, stat="value")
        assert uniform == pytest.approx(3 * (0.9 + 7 * 0.1) / 8, abs=0.1)
        assert uniform < logged < exploit
        low = stream.metric("policy_value", policy="uniform", estimator=estimator, stat="low")
        high = stream.metric("policy_value", policy="uniform", estimator=estimator, stat="high")
        assert low < uniform < high
        assert stream.metric("policy_weights", policy="uniform", estimator=estimator, stat="ess") > 300
        mean = stream.metric("policy_weights", policy="exploit", estimator=estimator, stat="mean")
        assert mean == pytest.approx(1.0, abs=0.08)
    assert stream.metric("evaluation_valid", reason="propensities") == 1
    assert stream.metric("evaluation_valid", reason="mean_weight") == 1
    assert stream.outcomes() == {"usable": 1_500}


def test_few_rows_give_weights_and_no_number() -> None:
    stream = Stream()
    play(stream, 40)
    assert 0 < stream.metric("policy_weights", policy="uniform", estimator="ips", stat="ess") < 100
    assert math.isnan(stream.metric("policy_value", policy="uniform", estimator="ips", stat="value"))


def test_propensities_that_do_not_follow_from_the_scores_make_everything_invalid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "_CHECK_EVERY", 4)
    monkeypatch.setattr(evaluation, "_CHECKED", 16)
    stream = Stream()
    play(stream, 600)
    rng = np.random.default_rng(1)
    for number in range(20):
        honest = three_of_eight(f"x{number}", "eve", rng)
        fields = {name: getattr(honest, name) for name in honest.__slots__ if name != "log_propensities"}
        stream.put(Impression(**fields, log_propensities=(-0.5, -1.0, -1.5)))
    assert stream.metric("evaluation_valid", reason="propensities") == 0
    assert math.isnan(stream.metric("policy_value", policy="uniform", estimator="snrips", stat="value"))
    play(stream, 100, seed=2)
    assert stream.metric("evaluation_valid", reason="propensities") == 1  # what is checked now is right


def test_impressions_that_say_nothing_about_others_are_counted_by_reason() -> None:
    stream = Stream()
    rng = np.random.default_rng(0)
    stream.put(
        shown("i1"),
        shown("i2", scores=(1.0, 2.0), temperature=0.25),
        impression("ann", arm="external", candidates=(), log_propensities=(), timestamp_ms=None),
        three_of_eight("i4", "ann", rng),
    )
    stream.put(three_of_eight("i4", "ann", rng))  # repeated: counted once
    assert stream.outcomes() == {"unlogged": 1, "greedy": 1, "external": 1, "usable": 1}
    stream.evaluation.show(0)
    name = "moard_learner_evaluation_impressions_total"
    assert stream.registry.get_sample_value(name, {"outcome": "greedy"}) == 1


def test_numbers_that_make_no_sense_harm_nobody() -> None:
    stream = Stream()
    absurd: dict[str, Any] = {"candidates": (1, 2, 3), "log_propensities": (-1e15, -1e15), "arm": "policy"}
    stream.put(
        shown("i1", scores=(1e15, -1e15, 0.0), temperature=5e-324, **absurd),
        shown("i2", scores=(0.0, 0.0, 0.0), temperature=1e15, **absurd),
    )
    stream.silence()
    assert stream.metric("evaluation_valid", reason="propensities") == 0
    assert stream.metric("evaluation_rows") == 2
    assert math.isfinite(stream.metric("policy_weights", policy="exploit", estimator="snrips", stat="ess"))


def test_rows_that_leave_the_window_stay_in_the_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_EVICTED", 50)
    small, large = Stream(window=200), Stream(window=10_000)
    for stream in (small, large):
        play(stream, 1_000)
    assert small.metric("evaluation_rows") <= 250
    assert small.metric("evaluation_rows", "total") == large.metric("evaluation_rows", "total") == 1_000
    for stat in ("value", "low", "high"):
        labels = {"policy": "exploit", "estimator": "snrips", "stat": stat}
        total = small.metric("policy_value", "total", **labels)
        assert total == pytest.approx(large.metric("policy_value", "total", **labels))
    labels = {"policy": "uniform", "estimator": "ips", "stat": "largest_share"}
    assert small.metric("policy_weights", "total", **labels) == large.metric("policy_weights", "total", **labels)
    assert small.metric("logged_policy_value") != small.metric("logged_policy_value", "total")


def test_values_in_the_totals_are_counted_once_and_when_they_were_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_EVICTED", 10)
    small, large = Stream(window=20, gamma=0.0), Stream(window=10_000, gamma=0.0)
    for stream in (small, large):
        for number in range(100):
            clicks = [click(f"i{number}", 1, f"user-{number % 7}")] * (number % 2)
            stream.put(shown(f"i{number}", f"user-{number % 7}", value=float(number % 3)), *clicks)
        stream.silence()
    slope = small.metric("value_calibration_slope", "total", prediction="u")
    assert slope == pytest.approx(large.metric("value_calibration_slope", "total", prediction="u"))


def test_memory_is_bounded_and_stories_stay_whole_when_too_many_users_are_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "_EVICTED", 10)
    stream = Stream(window=100)
    for number in range(2_000):  # nobody comes back, so that every row stays open for half an hour
        stream.put(shown(f"i{number}", f"user-{number}"), after_ms=1)
    assert len(stream.evaluation) <= 100
    assert stream.outcomes()["not_followed"] > 1_500
    followed = {stream.evaluation._rows.id_of(int(slot)) for slot in stream.evaluation._rows.open_slots()}
    assert len(followed) > 25
    for number in range(2_000):  # whoever was followed goes on to be
        stream.put(shown(f"j{number}", f"user-{number}"), after_ms=1)
    names = {stream.evaluation._rows.id_of(int(slot)) for slot in stream.evaluation._rows.open_slots()}
    assert {name[1:] for name in names} <= {name[1:] for name in followed}
    stream.silence()
    for _ in range(20):
        stream.evaluation.show(stream.attribution.watermark_ms)
    before = stream.outcomes()["not_followed"]
    stream.put(*(shown(f"k{number}", f"user-{number}") for number in range(80)))
    assert stream.outcomes()["not_followed"] == before


def test_what_nobody_saw_is_let_go_of_when_its_windows_have_passed() -> None:
    stream = Stream()
    stream.attribution = Attribution(JoinRules(require_seen=True))
    stream.put(shown("i1"))
    stream.silence()
    stream.evaluation.show(stream.attribution.watermark_ms)
    assert len(stream.evaluation) == 0


def test_a_new_process_begins_anew_and_counts_nothing_twice() -> None:
    stream = Stream()
    stream.put(shown("i1"), click("i1", 1))
    stream.put(shown("i2"))
    assert stream.metric("evaluation_rows", "total") == 1
    stream.restart()
    stream.put(click("i1", 2), click("i2", 1))  # rows of the process before: no concern of this one
    stream.put(shown("i3"), click("i3", 1))
    stream.silence()
    assert stream.metric("evaluation_rows", "total") == 1
    assert stream.metric("choice_quality", measure="base_rate") == 0.5
    assert len(stream.evaluation) == 1


def test_slots_are_used_again_and_stories_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_EVICTED", 5)
    stream = Stream(window=10, gamma=0.9)
    for number in range(500):
        user = f"user-{number % 3}"
        stream.put(shown(f"i{number}", user, value=1.0), click(f"i{number}", 1, user))
    rows = stream.evaluation._rows
    assert len(rows.state) == 1_024
    assert len(rows) <= 10 + 5 + 3
    slots = rows.closed_slots()
    (_, realised), _ = rows.promises(slots)
    assert len(realised) == 0  # no story is known far enough: 44 requests ahead of a window of 10
