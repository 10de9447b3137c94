"""What the learner does when learning goes wrong."""

from typing import Any, cast
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.health_metrics import ALARMS
from libs.adapters.telemetry import LearnerMetrics
from libs.rl.agent import Agent
from libs.rl.exposure import Exposure
from libs.rl.snapshot import LARGEST_BOOST
from libs.rl.watch import REMEDIES
from services.learner import join_metrics
from services.learner.attribution import Attribution
from services.learner.guard import Guard
from services.learner.join_metrics import JoinMetrics
from services.learner.training_metrics import TrainingMetrics
from services.learner.windows import JoinRules
from tests.unit.learner.stand import FakeAgent

WIDE, NARROW = Exposure(5_000, 0.8, 0.4, 5.0, 1e-6), Exposure(5_000, 0.2, 0.9, 1.0, 1e-3)


class Watched:
    def __init__(self) -> None:
        self.agent, self.registry = FakeAgent(), CollectorRegistry()
        metrics = TrainingMetrics(LearnerMetrics(self.registry, []), lambda: 0)
        self.guard = Guard(cast(Agent, self.agent), metrics)

    def update(self, times: int = 1, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.agent, name, value)
        for _ in range(times):
            self.guard.after(self.agent.update(4))

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"moard_learner_{name}", labels)


@pytest.mark.parametrize("ruined", [{"finite": False}, {"q_max": 11.5}])
def test_divergence_goes_back_and_publishes_nothing_until_an_update_is_sound_again(ruined: dict[str, Any]) -> None:
    watched = Watched()
    watched.update(3)
    assert watched.guard.sound
    watched.update(**ruined)
    assert not watched.guard.sound
    assert watched.agent.went_back == 1
    assert watched.metric("alarm", alarm="divergence") == 1
    assert watched.metric("weights_restored_total") == 1
    watched.update(finite=True, q_max=0.2)
    assert watched.guard.sound
    assert watched.metric("alarm", alarm="divergence") == 0
    assert watched.agent.went_back == 1


def test_rows_are_suspected_only_of_what_a_row_can_do() -> None:
    watched = Watched()
    watched.update(3)
    watched.update(q_max=11.5)  # weights that ran away by themselves
    assert not watched.guard.expelled
    watched.update(q_max=0.2, finite=False)
    assert [row.step for row in watched.guard.expelled] == [4]


def test_only_sound_weights_are_kept() -> None:
    watched = Watched()
    watched.update(199)
    assert watched.agent.kept == 0
    watched.update()
    assert watched.agent.kept == 1
    watched.update(199)
    watched.update(q_max=20.0)
    assert watched.agent.kept == 1


def test_slates_that_narrow_raise_exploration_step_by_step_and_let_go_of_it_again() -> None:
    watched = Watched()
    watched.update(200, slates=[NARROW, WIDE])
    assert watched.agent.exploration_boost == 2.0
    assert watched.metric("alarm", alarm="feedback_loop") == 1
    assert watched.metric("exploration_boost") == 2.0
    watched.update(800)
    assert watched.agent.exploration_boost == LARGEST_BOOST
    watched.update(200, slates=[NARROW, NARROW])
    assert watched.agent.exploration_boost == LARGEST_BOOST / 2
    assert watched.metric("alarm", alarm="feedback_loop") == 0
    watched.update(600)
    assert watched.agent.exploration_boost == 1.0
    assert watched.metric("exposure", stat="gini") == 0.9


def test_every_alarm_of_the_training_thread_has_a_series() -> None:
    assert set(ALARMS) == {*REMEDIES, "stale_history"}


def test_histories_that_lack_what_was_acknowledged_raise_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Mock()
    monkeypatch.setattr(join_metrics, "log", log)
    registry, attribution = CollectorRegistry(), Attribution(JoinRules())
    shown = JoinMetrics(attribution, LearnerMetrics(registry, []))

    def alarm_after(impressions: int, stale: int) -> float | None:
        attribution.tally["impressions"] += impressions
        attribution.tally["stale_history"] += stale
        shown.show()
        return registry.get_sample_value("moard_learner_alarm", {"alarm": "stale_history"})

    assert alarm_after(999, 500) == 0  # too few to judge
    assert alarm_after(1, 0) == 1
    assert alarm_after(1_000, 900) == 1
    assert alarm_after(1_000, 9) == 0
    assert alarm_after(1_000, 9) == 0
    assert alarm_after(1_000, 11) == 1
    # Said when it begins and when it is over, not once for each thousand.
    assert [said[0] for said in log.mock_calls] == ["error", "info", "error"]
