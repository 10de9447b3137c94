"""Each bug that trains and never alarms, planted into the code: the test that is named for it goes red."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, VARIABLE

ROOT = Path(__file__).parents[3]
UPDATE, REPLAY, SLATES = (f"tests/unit/rl/test_{name}.py" for name in ("update", "replay", "slates"))

NAMED = {
    "advantage_centred_over_the_batch": [
        f"{UPDATE}::test_q_is_the_same_alone_permuted_beside_strangers_and_padded",
        f"{UPDATE}::test_one_logged_content_gives_the_advantage_head_a_gradient",
    ],
    "advantage_centred_over_its_slate": [
        f"{UPDATE}::test_q_is_the_same_alone_permuted_beside_strangers_and_padded",
        f"{UPDATE}::test_one_logged_content_gives_the_advantage_head_a_gradient",
    ],
    "target_on_the_same_state": [f"{UPDATE}::test_the_target_reads_the_next_state_and_not_this_one"],
    "always_done": [
        f"{UPDATE}::test_the_target_is_discounted_value_where_the_story_goes_on_and_zero_where_it_ends",
        "tests/unit/rl/test_agent.py::test_a_loop_of_equal_rewards_is_worth_r_over_one_minus_gamma",
    ],
    "one_sample_a_step": [f"{REPLAY}::test_a_batch_holds_distinct_rows_and_all_new_ones"],
    "propensity_without_the_uniform_arm": [f"{SLATES}::test_drawn_frequencies_match_logged_probabilities"],
}


def outcome(tests: list[str], bug: str) -> tuple[int, str]:
    """Run tests in a process of their own, with a bug or (empty) without."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.planted.bugs", "-o", "addopts=", *tests]
    command += ["--import-mode=importlib", "--tb=no", "-rf"]
    environment = os.environ | {VARIABLE: bug}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


def test_every_bug_has_tests_named_for_it() -> None:
    assert set(NAMED) == set(BUGS)


def test_the_named_tests_pass_on_the_code_as_it_is() -> None:
    code, output = outcome(sorted({test for tests in NAMED.values() for test in tests}), "")
    assert code == 0, output


@pytest.mark.parametrize("bug", NAMED)
def test_a_planted_bug_turns_every_test_named_for_it_red(bug: str) -> None:
    code, output = outcome(NAMED[bug], bug)
    assert code == 1, output
    assert [test for test in NAMED[bug] if f"FAILED {test}" not in output] == [], output
