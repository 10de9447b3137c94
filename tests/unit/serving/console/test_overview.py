"""What the console says is wrong, and the numbers of its charts."""

from typing import Any

import pytest

from services.serving.console.overview import Overview
from services.serving.console.problems import problems
from services.serving.console.recent import History, RecentFreshness, quantile


def part(service: str, age_s: float = 0.0, state: str = "ok", **said: Any) -> dict[str, Any]:
    """Return a status with nothing wrong in it."""
    health = {"state": state, "waiting_for": said.pop("waiting_for", []), "alarms": said.pop("alarms", [])}
    common = {"service": service, "instance": "here:1", "age_s": age_s, "version": "1", "health": health}
    return common | _SAID[service] | said


_SPAN = {"rows": 10, "served": 0.4, "uniform": {"value": 0.2, "low": 0.1, "high": 0.3, "ess": 9}, "invalid": []}
_SAID: dict[str, dict[str, Any]] = {
    "learner": {
        "settings": {"MOARD_LEARNER_CHECKPOINT_INTERVAL_S": 30.0},
        "partitions": [{"lag_records": 1}],
        "lag": {"records": 1, "seconds": 0.0, "read_per_s": 7.0, "drain_s": 0.0},
        "checkpoint": {"age_s": 3.0, "duration_s": 0.1, "failures": 0},
        "gap_records": 0,
        "updates": 100,
        "outcomes": {"joined": 5},
        "dead_letters": {"json": 1},
        "q": {"mean": 0.123456789, "max": 1.0},
        "loss": {"total": 2.0},
        "evaluation": {"window": _SPAN, "total": _SPAN},
    },
    "ingest": {
        "settings": {},
        "catalogue": {"removals_held": 0},
        "events_per_s": {"accepted": 3.0},
        "learner": {"partitions": [{"lag_records": 4}, {"lag_records": 5}]},
    },
    "serving": {
        "settings": {},
        "snapshot": {"version": 9, "age_s": 1.0, "pinned_version": 0, "pin": None},
        "freshness": {"bounds_s": [1.0, 2.0], "counts": [0, 0, 0], "sum_s": 0.0},
        "degraded": {"history": 0},
        "rankings_per_s": 11.0,
    },
}


def all_parts(**said: dict[str, Any]) -> list[dict[str, Any]]:
    return [part(service, **said.get(service, {})) for service in _SAID]


def told(parts: list[dict[str, Any]], away: str | None = None, **rates: float) -> list[tuple[str, str]]:
    return [(problem.level, problem.text) for problem in problems(parts, away, rates)]


def test_nothing_is_wrong_when_nothing_is() -> None:
    assert told(all_parts()) == []


@pytest.mark.parametrize(
    ("said", "level", "text"),
    [
        ({"learner": {"age_s": 12.4}}, "bad", "No learner for 12 s"),
        ({"learner": {"state": "failing"}}, "bad", "The loop or the training thread stands still"),
        ({"ingest": {"waiting_for": ["broker"]}}, "warn", "Waits for: broker"),
        ({"learner": {"alarms": [{"alarm": "no_advantage", "remedy": "…"}]}}, "bad", "Alarm: no advantage"),
        (
            {"learner": {"lag": {"records": 40, "seconds": 20.0, "drain_s": None, "read_per_s": 0}}},
            "warn",
            "40 records behind, and not catching up",
        ),
        ({"learner": {"checkpoint": {"age_s": 121.0}}}, "bad", "No checkpoint for 121 s"),
        (
            {"learner": {"gap_records": 3}},
            "warn",
            "3 records fell off retention before they were learned",
        ),
        (
            {"serving": {"snapshot": {"pin": "good", "pinned_version": 5, "version": 5}}},
            "note",
            "good is pinned: learning goes on, and nothing newer ranks",
        ),
        (
            {"serving": {"snapshot": {"pin": "good", "pinned_version": 5, "version": 9}}},
            "bad",
            "good is pinned, and could not be loaded or failed a check",
        ),
        (
            {"ingest": {"catalogue": {"removals_held": 7}}},
            "warn",
            "7 contents vanished from the table at once and are kept",
        ),
        ({"learner": {"lag": None}}, "warn", "Version 1 says of itself what this one does not understand"),
    ],
)
def test_what_is_wrong_is_named_once_and_has_a_remedy(said: dict[str, Any], level: str, text: str) -> None:
    assert told(all_parts(**said)) == [(level, text)]
    assert all(problem.remedy for problem in problems(all_parts(**said), None, {}))


def test_a_part_that_nobody_heard_of_is_missed_unless_redis_is_away() -> None:
    assert told([part("serving"), part("ingest")]) == [("bad", "No learner is running")]
    assert told([part("serving")], away="refused") == [
        ("bad", "Redis does not answer: what is shown of other services is old")
    ]


def test_another_instance_speaks_for_one_that_fell_silent() -> None:
    assert told([*all_parts(), part("learner", age_s=30.0) | {"instance": "there:1"}]) == []


def test_answers_without_a_part_are_told_while_they_come_the_worst_first() -> None:
    rates = {"degraded:history": 2.0, "degraded:users": 0.0}
    assert told(all_parts(learner={"state": "failing"}), None, **rates) == [
        ("bad", "The loop or the training thread stands still"),
        ("warn", "2.0 answers a second without: history"),
    ]


def test_a_look_has_the_numbers_of_the_charts_and_keeps_settings_apart() -> None:
    overview = Overview()
    message = overview.look(all_parts(), None, 1_000)
    point = message["point"]
    assert (point["served"], point["uniform"], point["uniform_low"]) == (0.4, 0.2, 0.1)
    assert (point["read_per_s"], point["rankings_per_s"], point["events_per_s"]) == (7.0, 11.0, 3.0)
    assert point["q_mean"] == 0.12346
    assert point["fresh_p95"] is None
    assert all("settings" not in shown for shown in message["parts"])
    assert overview.settings["learner here:1"] == {"MOARD_LEARNER_CHECKPOINT_INTERVAL_S": 30.0}


def test_nothing_known_is_shown_as_unknown_not_as_zero() -> None:
    point = Overview().look([part("serving")], "away", 1_000)["point"]
    assert point["lag_records"] is None
    assert point["served"] is None
    assert point["rankings_per_s"] == 11.0


@pytest.mark.parametrize("silent", [[], [part("learner", age_s=30.0)]])
def test_without_a_learner_lag_is_what_kafka_tells_ingest(silent: list[dict[str, Any]]) -> None:
    point = Overview().look([part("serving"), part("ingest"), part("ingest"), *silent], None, 1_000)["point"]
    assert point["lag_records"] == 9
    assert point["lag_s"] is None
    assert Overview().look(all_parts(), None, 1_000)["point"]["lag_records"] == 1


def test_an_ingest_of_an_older_build_tells_no_lag_and_breaks_nothing() -> None:
    older = {name: said for name, said in part("ingest").items() if name != "learner"}
    assert Overview().look([older], None, 1_000)["point"]["lag_records"] is None


def whole(*counts: int) -> dict[str, Any]:
    return {"bounds_s": [1.0, 2.0], "counts": list(counts), "sum_s": 0.0}


def test_freshness_is_that_of_the_slowest_worker_in_the_last_minutes() -> None:
    now_s = [0.0]
    recent = RecentFreshness(over_s=60.0, slot_s=5.0, clock_s=lambda: now_s[0])
    assert recent.slowest({"a": whole(0, 0, 0)}) is None
    found = recent.slowest({"a": whole(4, 4, 4), "b": whole(0, 4, 4)})
    assert found is not None
    assert (found["instance"], found["counts"], found["p50_s"]) == ("b", [0, 4, 4], 1.5)
    for at in range(5, 101, 5):
        now_s[0] = float(at)
        found = recent.slowest({"a": whole(5, 5, 5), "b": whole(0, 4, 4)})
    assert found is None  # nothing in the last minute
    found = recent.slowest({"a": whole(1, 3, 3), "b": whole(0, 4, 4)})
    assert found is not None
    assert (found["instance"], found["counts"]) == ("a", [1, 3, 3])  # began anew


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(0.95, [1.0, 2.0], [0, 0, 10]) == 2.0
    assert quantile(0.5, [1.0, 2.0], [10, 10, 10]) == 0.5


def test_history_keeps_one_point_of_each_slot_and_forgets_the_oldest() -> None:
    history = History(slot_s=5, kept=3)
    for at_ms, lag in ((1_000, 1.0), (4_000, 2.0), (6_000, 3.0), (11_000, None), (16_000, 5.0)):
        history.add(at_ms, {"lag": lag})
    columns = history.columns()
    assert columns["at_ms"] == [6_000, 11_000, 16_000]
    assert columns["points"] == {"lag": [3.0, None, 5.0]}
    assert (columns["slot_ms"], columns["kept"]) == (5_000, 3)
