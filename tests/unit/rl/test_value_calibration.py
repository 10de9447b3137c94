"""Realised returns against promised ones."""

import math

import numpy as np
import pytest

from libs.rl.value_calibration import ENDED, UNKNOWN, Line, lookahead, returns, tenths


def test_a_story_of_three_requests_by_hand() -> None:
    total, missing = returns(np.array([1.0, 0.0, 2.0]), np.array([0.9, 0.5, 0.0]), np.array([1, 2, ENDED]), 44)
    assert total.tolist() == pytest.approx([1 + 0.9 * (0 + 0.5 * 2), 0.5 * 2, 2.0])
    assert missing.tolist() == [0.0, 0.0, 0.0]


def test_what_is_not_known_is_a_share_of_the_return() -> None:
    _, missing = returns(np.zeros(3), np.array([0.9, 0.5, 0.0]), np.array([1, 2, UNKNOWN]), 44)
    assert missing.tolist() == pytest.approx([0.45, 0.5, 1.0])


def test_enough_requests_make_up_for_a_story_that_goes_on() -> None:
    count = 60
    following = np.append(np.arange(1, count), UNKNOWN)
    total, missing = returns(np.ones(count), np.full(count, 0.9), following, lookahead(0.9))
    assert missing[0] < 0.01 < missing[count - 40]
    assert total[0] == pytest.approx(1 / (1 - 0.9), rel=0.011)


def test_a_myopic_learner_needs_no_next_request() -> None:
    total, missing = returns(np.array([1.0, 5.0]), np.zeros(2), np.array([1, UNKNOWN]), lookahead(0.0))
    assert (total[0], missing[0]) == (1.0, 0.0)


def test_the_line_by_hand_and_in_parts() -> None:
    predicted, realised = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 6.0])
    assert Line.through(predicted, realised).slope == pytest.approx(2.5)
    parts = Line.through(predicted[:1], realised[:1]) + Line.through(predicted[1:], realised[1:])
    assert parts.slope == pytest.approx(2.5)
    assert math.isnan(Line.through(np.ones(5), np.arange(5.0)).slope)
    assert math.isnan(Line().slope)


def test_tenths_are_sorted_by_what_was_predicted() -> None:
    predicted = np.arange(20.0)[::-1]
    found = tenths(predicted, 2 * predicted)
    assert [part.n for part in found] == [2] * 10
    assert (found[0].predicted, found[0].realised) == (0.5, 1.0)
    assert found[9].realised == 37.0
    assert len(tenths(np.ones(3), np.ones(3))) == 3
