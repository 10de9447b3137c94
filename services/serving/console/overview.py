"""One look at everything: what all services say, what is wrong, and the numbers that charts are made of."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from libs.adapters.status import Posted, Rates
from services.serving.console.problems import SILENT_S, problems
from services.serving.console.recent import RecentFreshness

_DIGITS: Final = 5  # significant ones, of a chart's point: a pixel shows fewer


class Overview:
    """Turns statuses into what the console shows; remembers what rates and recent freshness need."""

    def __init__(self) -> None:
        self._rates: Rates[str] = Rates()
        self._freshness = RecentFreshness()
        self.settings: dict[str, Any] = {}

    def look(self, parts: Sequence[dict[str, Any]], board_away: str | None, at_ms: int) -> dict[str, Any]:
        """Return one message. ``settings`` keeps apart what does not change from second to second."""
        speaking = [part for part in parts if part["age_s"] <= SILENT_S]
        learners, ingests, workers = (
            [part for part in speaking if part["service"] == service] for service in ("learner", "ingest", "serving")
        )
        rates = self._rates.per_s(_totals(learners, workers))
        fresh = self._freshness.slowest({worker["instance"]: worker["freshness"] for worker in workers})
        self.settings = {f"{part['service']} {part['instance']}": part["settings"] for part in parts}
        return {
            "at_ms": at_ms,
            "board_away": board_away,
            "problems": [problem._asdict() for problem in problems(list(parts), board_away, rates)],
            "parts": [{name: said for name, said in part.items() if name != "settings"} for part in parts],
            "rates": rates,
            "freshness": fresh,
            "point": _rounded(_point(learners, ingests, workers, rates, fresh)),
        }


def said_by(posted: Sequence[Posted], older_s: float = 0.0) -> list[dict[str, Any]]:
    """Return statuses with their age, ``older_s`` after they were read."""
    return [{**orjson.loads(one.status), "age_s": one.age_s + older_s} for one in posted]


def _totals(learners: Sequence[Mapping[str, Any]], workers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    totals: dict[str, float] = {"updates": _sum(learners, "updates")}
    for kind, named, parts in (
        ("outcome", "outcomes", learners),
        ("dead", "dead_letters", learners),
        ("degraded", "degraded", workers),
    ):
        for part in parts:
            for name, count in part[named].items():
                totals[f"{kind}:{name}"] = totals.get(f"{kind}:{name}", 0.0) + count
    return totals


def _point(
    learners: Sequence[Mapping[str, Any]],
    ingests: Sequence[Mapping[str, Any]],
    workers: Sequence[Mapping[str, Any]],
    rates: Mapping[str, float],
    fresh: Mapping[str, Any] | None,
) -> dict[str, float | None]:
    """Return the numbers that charts follow; None for what nobody says."""
    learner = learners[0] if learners else None
    uniform = learner["evaluation"]["window"]["uniform"] if learner else {}
    # Where no learner gives its own lag, Kafka's word; an ingest of an older build has none.
    behind = learners or [part["learner"] for part in ingests[:1] if "learner" in part]
    waiting = [partition["lag_records"] for part in behind for partition in part["partitions"]]
    point = {
        "rankings_per_s": _sum(workers, "rankings_per_s") if workers else None,
        "events_per_s": sum(part["events_per_s"]["accepted"] for part in ingests) if ingests else None,
        "fresh_p50": fresh["p50_s"] if fresh else None,
        "fresh_p95": fresh["p95_s"] if fresh else None,
        "uniform": uniform.get("value"),
        "uniform_low": uniform.get("low"),
        "uniform_high": uniform.get("high"),
        "served": learner["evaluation"]["window"]["served"] if learner else None,
        "updates_per_s": rates["updates"] if learner else None,
        "lag_records": sum(waiting) if waiting else None,
        "lag_s": max(part["lag"]["seconds"] for part in learners) if learner else None,
        "read_per_s": sum(part["lag"]["read_per_s"] for part in learners) if learner else None,
        "q_mean": learner["q"]["mean"] if learner else None,
        "q_max": learner["q"]["max"] if learner else None,
    }
    parts = ("total", "u", "n", "a", "choice")
    return point | {f"loss_{part}": learner["loss"].get(part) if learner else None for part in parts}


def _rounded(point: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if number is None else float(f"{number:.{_DIGITS}g}") for name, number in point.items()}


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(sum(part[name] for part in parts))
