"""Detectors: silent while learning is sound, loud when it is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from libs.rl.agent import AgentSettings, Report
from libs.rl.exposure import Exposure, exposure, gini, newest
from libs.rl.replay import NewRow, Replay
from libs.rl.transitions import Closed
from libs.rl.watch import REMEDIES, Watch, diverged, narrowing
from tests.unit.rl.small_agent import click, make_agent, opened, play

SOUND = Report(
    loss={"total": 0.5},
    q_mean=1.0,
    q_max=3.0,
    td_p50=0.1,
    td_p99=0.4,
    gradient_norm=1.0,
    batch=32,
    finite=True,
    value_bound=10.0,
    settled=20,
    terminal_share=0.3,
    continuation_mean=1.5,
    advantage_spread=0.2,
)


def alarms_after(settings: AgentSettings, updates: int, **changes: Any) -> frozenset[str]:
    watch, held = Watch(settings), frozenset[str]()
    for _ in range(updates):
        held = watch.observe(replace(SOUND, **changes))
    return held


def test_sound_learning_raises_no_alarm() -> None:
    assert alarms_after(AgentSettings(), 500) == frozenset()


@pytest.mark.parametrize("changes", [{"finite": False}, {"q_max": 11.1}, {"q_max": float("nan"), "finite": False}])
def test_divergence_is_noticed_in_the_very_update(changes: dict[str, Any]) -> None:
    assert alarms_after(AgentSettings(), 1, **changes) == {"divergence"}
    assert diverged(replace(SOUND, **changes))


def test_values_at_their_bound_may_wobble() -> None:
    assert alarms_after(AgentSettings(), 1, q_max=10.9) == frozenset()


def test_stories_that_never_go_on_mean_a_broken_join_unless_the_future_does_not_count() -> None:
    broken = {"terminal_share": 1.0, "continuation_mean": 0.0}
    assert alarms_after(AgentSettings(), 300, **broken) == {"joiner_broken"}
    assert alarms_after(AgentSettings(), 100, **broken) == frozenset()  # too early to tell
    assert alarms_after(AgentSettings(gamma=0.0), 300, **broken) == frozenset()


def test_one_batch_without_a_continuation_says_nothing() -> None:
    watch = Watch(AgentSettings())
    for _ in range(300):
        watch.observe(SOUND)
    assert watch.observe(replace(SOUND, terminal_share=1.0, continuation_mean=0.0)) == frozenset()


def test_an_advantage_that_is_the_same_for_every_content_is_no_advantage() -> None:
    assert alarms_after(AgentSettings(), 300, advantage_spread=0.0) == {"no_advantage"}


def test_batches_of_rows_whose_future_is_unknown_are_not_judged() -> None:
    assert alarms_after(AgentSettings(), 300, settled=0, terminal_share=1.0, advantage_spread=0.0) == frozenset()


def test_every_alarm_has_a_remedy() -> None:
    assert set(REMEDIES) == {"divergence", "joiner_broken", "no_advantage", "feedback_loop"}


# --- exposure ------------------------------------------------------------------------------------------------------


def filled(slates: list[list[int]], log_propensity: float, candidates: list[int]) -> Replay:
    replay = Replay(100)
    for at, slate in enumerate(slates):
        none = np.zeros(0, np.int32)
        row = NewRow(
            history=none,
            history_age_s=(),
            context=None,
            slate=np.array(slate, np.int32),
            log_counts=np.zeros(len(slate), np.float32),
            log_propensities=(log_propensity / 2, log_propensity),
            candidates=np.array(candidates, np.int32),
        )
        replay.insert(at + 1, row)
    return replay


def test_exposure_by_hand() -> None:
    replay = filled([[1, 2], [1, 3], [1, 2]], -2.0, [1, 2, 3, 4])
    seen = exposure(replay, newest(replay, 10))
    assert seen.slates == 3
    assert seen.coverage == 3 / 4
    assert seen.gini == pytest.approx(gini(np.array([0, 1, 2, 3])))
    assert seen.entropy == pytest.approx(2.0)
    assert seen.propensity_min == pytest.approx(np.exp(-2))


def test_gini_by_hand() -> None:
    assert gini(np.array([1, 3])) == pytest.approx(0.25)
    assert gini(np.array([0, 0])) == 0.0


def test_rows_without_propensities_and_organic_ones_are_not_slates() -> None:
    replay = filled([[1, 2]], -1.0, [1, 2])
    none = np.zeros(0, np.int32)
    bare = NewRow(none, (), None, np.array([1], np.int32), np.zeros(1, np.float32))
    replay.insert(50, bare)
    replay.insert(51, bare, organic=True)
    assert exposure(replay, newest(replay, 10)).slates == 1
    assert exposure(replay, newest(replay, 2)).slates == 0


def test_windows_of_the_buffer_end_at_its_edges() -> None:
    replay = Replay(4)
    assert newest(replay, 3).tolist() == []
    for key in range(6):
        none = np.zeros(0, np.int32)
        replay.insert(key, NewRow(none, (), None, np.array([1], np.int32), np.zeros(1, np.float32)))
    assert newest(replay, 2).tolist() == [0, 1]
    assert newest(replay, 3, skip=2).tolist() == [2, 3]


def test_only_fewer_contents_less_evenly_and_more_surely_together_are_a_feedback_loop() -> None:
    before = Exposure(1_000, 0.8, 0.4, 5.0, 1e-6)
    assert narrowing(before, Exposure(1_000, 0.2, 0.9, 1.0, 1e-3))
    assert not narrowing(before, Exposure(1_000, 0.8, 0.9, 1.0, 1e-3))
    assert not narrowing(before, Exposure(1_000, 0.2, 0.4, 1.0, 1e-3))
    assert not narrowing(before, Exposure(1_000, 0.2, 0.9, 5.0, 1e-3))
    assert not narrowing(before, before)
    assert not narrowing(Exposure(0, 0.0, 0.0, 0.0, 0.0), before)


# --- what the reports are made of ------------------------------------------------------------------------------------


def test_a_report_says_how_stories_went_on() -> None:
    agent = make_agent(gamma=0.5)
    play(agent, 60)
    report = agent.update(50)
    assert 0 < report.terminal_share < 1
    assert report.settled > 0
    assert report.value_bound == pytest.approx(4 * 2 / 0.5)
    assert set(report.gaps) == {(30.0, 0.5)}
    assert 0 <= report.row_age_p50 < agent.inserted


def test_a_report_without_any_continuation_has_nothing_ahead() -> None:
    agent = make_agent()
    agent.apply([opened("a"), click("a", 1), Closed("a"), opened("b"), Closed("b")])
    report = agent.update()
    assert (report.terminal_share, report.empty_share, report.continuation_mean) == (1.0, 0.5, 0.0)
    assert report.settled == 2


def test_the_age_of_rows_is_in_rows() -> None:
    replay = filled([[1]] * 5, -1.0, [1])
    assert replay.ages(np.array([0, 4])).tolist() == [4, 0]


def test_units_that_react_to_nothing_are_dormant() -> None:
    agent, awake = make_agent(), make_agent()
    for each in (agent, awake):
        play(each, 40)
    with torch.no_grad():
        agent.network.norm_1.weight[:64] = 0.0
        agent.network.norm_1.bias[:64] = 0.0
    assert awake.update().dormant[0] < 0.25
    assert agent.update().dormant[0] >= 0.5
    assert agent.update().dormant == ()
