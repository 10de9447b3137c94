import math
from typing import Any

import numpy as np
import pytest

from libs.rl.rewards import RewardSpec, is_choice, moves_history, terms_of
from libs.rl.transitions import TERMS


def terms(**named: float) -> list[float]:
    return [named.get(term, 0.0) for term in TERMS]


def test_reward_is_the_weighted_sum_clipped_for_each_content() -> None:
    spec = RewardSpec({"click": 1.0, "hide": 0.5, "reward": 2.0}, low=-1.0, high=2.0)
    rows = np.array([[terms(click=1.0), terms(hide=-1.0)], [terms(reward=7.0), terms(reward=-9.0)]], np.float32)
    assert spec.reward(rows).tolist() == [[1.0, -0.5], [2.0, -1.0]]


def test_the_declaration_has_a_version() -> None:
    assert RewardSpec({"click": 1.0}).version == RewardSpec({"click": 1.0}).version
    assert RewardSpec({"click": 1.0, "like": 2.0}).version == RewardSpec({"like": 2.0, "click": 1.0}).version
    others = [RewardSpec({"click": 2.0}), RewardSpec({"like": 1.0}), RewardSpec({"click": 1.0}, high=3.0)]
    assert len({RewardSpec({"click": 1.0}).version, *(spec.version for spec in others)}) == 4


@pytest.mark.parametrize(
    "declared",
    [
        {"weights": {"clicks": 1.0}},
        {"weights": {"ratio": 1.0}},
        {"low": 1.0, "high": 1.0},
        {"weights": {"click": math.nan}},
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="reward"):
        RewardSpec(**declared)


def test_terms_by_kind() -> None:
    assert terms_of("click") == {"click": 1.0}
    assert terms_of("like") == {"like": 1.0}
    assert terms_of("hide") == {"hide": -1.0}
    assert terms_of("reward", value=2.5) == {"reward": 2.5}
    assert terms_of("seen") == {}
    assert terms_of("view", dwell_ms=9_000_000) == {"view": 1.0}
    assert terms_of("view", dwell_ms=30_000, ratio=0.4) == {
        "view": pytest.approx(math.log(31) / math.log(301)),
        "ratio": 0.4,
    }


def test_what_counts_as_choice_and_what_moves_the_history() -> None:
    kinds = ("click", "like", "view", "hide", "reward", "seen")
    assert [is_choice(kind) for kind in kinds] == [True, True, False, False, False, False]
    assert [moves_history(kind, 4_000, 5_000) for kind in kinds] == [True, True, False, False, False, False]
    assert moves_history("view", 5_000, 5_000)
