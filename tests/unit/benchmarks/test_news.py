import numpy as np
import pytest

from benchmarks.news import RANKERS, clicks, example
from benchmarks.news_world import CONTENTS, FIRST, KNOWN, TIMES, UNKNOWN, USERS, Visit, visits


def test_tastes_change_where_the_schedule_says() -> None:
    stream = visits((FIRST, UNKNOWN), 300, seed=0)
    assert len(stream) == 600
    assert all(CONTENTS[visit.likes] == FIRST[visit.user, visit.time_of_day] for visit in stream[:300])
    assert all(CONTENTS[visit.likes] == UNKNOWN[visit.user, visit.time_of_day] for visit in stream[300:])
    assert {(visit.user, visit.time_of_day) for visit in stream} == {(who, when) for who in USERS for when in TIMES}


def test_everybody_has_one_taste_and_the_flips_change_as_many_as_the_tutorial_does() -> None:
    for taste in (FIRST, KNOWN, UNKNOWN):
        assert set(taste) == set(FIRST)
        assert set(taste.values()) <= set(CONTENTS)
    assert sum(FIRST[who] != KNOWN[who] for who in FIRST) == 2
    assert sum(FIRST[who] != UNKNOWN[who] for who in FIRST) == 4


def test_who_comes_does_not_depend_on_the_tastes() -> None:
    one, other = visits((FIRST,), 100, seed=3), visits((KNOWN, UNKNOWN), 50, seed=3)
    assert [(visit.user, visit.time_of_day) for visit in one] == [(visit.user, visit.time_of_day) for visit in other]


def test_vw_is_told_cost_and_probability_of_what_was_shown() -> None:
    lines = example(Visit("Tom", "morning", 0), 1, "0:-1.0:0.25 ").splitlines()
    assert lines[0] == "shared |User user=Tom time_of_day=morning"
    assert lines[1:3] == ["|Action article=politics", "0:-1.0:0.25 |Action article=sports"]
    assert len(lines) == 1 + len(CONTENTS)


def test_chance_gets_one_in_seven() -> None:
    stream = visits((FIRST,), 7_000, seed=0)
    assert clicks(RANKERS["chance"](0), stream).mean() == pytest.approx(1 / 7, abs=0.02)


def test_the_agent_learns_tastes_and_learns_them_anew() -> None:
    clicked = clicks(RANKERS["moard"](0), visits((FIRST, KNOWN), 400, seed=0))
    assert clicked[200:400].mean() > 0.8  # VW with ε = 0.2 arrives at 0.83, chance at 0.14
    assert clicked[600:].mean() > 0.7


def test_the_same_seed_plays_the_same_game() -> None:
    stream = visits((FIRST,), 60, seed=1)
    for make in (RANKERS["moard"], RANKERS["VW, SquareCB"]):
        np.testing.assert_array_equal(clicks(make(1), stream), clicks(make(1), stream))
