"""The run as one JSON document, for whoever compares runs: ``.moard/demo-report.json``."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from examples.movielens.readings import Readings
from examples.scoreboard import Scoreboard

REPORT = Path(".moard/demo-report.json")


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of the services' metrics and answers. ``clicks_per_request`` is of the last fifth of the stream."""

    requests: int
    interactions: int
    duration_s: float
    clicks_per_request: dict[str, float]
    clicks_per_request_by_fifth: dict[str, list[float]]
    freshness_s: dict[str, float | None]
    lag_records: int
    updates: int
    stale_history: float
    snapshot_version: int
    impressions: dict[str, int]
    interactions_settled: int

    def write(self, path: Path = REPORT) -> Path:
        """Write the document and return where."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")
        return path


def report(scoreboard: Scoreboard, readings: Readings, duration_s: float) -> Report:
    """Return the report of a run that ended with these readings."""
    return Report(
        requests=scoreboard.answered,
        interactions=readings.accepted,
        duration_s=round(duration_s, 1),
        clicks_per_request={ranker: round(clicks, 3) for ranker, clicks in scoreboard.last_fifth().items()},
        clicks_per_request_by_fifth={
            ranker: [round(clicks, 3) for clicks in fifths] for ranker, fifths in scoreboard.by_fifths().items()
        },
        freshness_s={name: _finite(readings.freshness_s(q)) for name, q in (("p50", 0.5), ("p95", 0.95))},
        lag_records=readings.lag_records,
        updates=readings.updates,
        stale_history=round(readings.stale_history, 5),
        snapshot_version=readings.snapshot_version,
        impressions={
            "appended": readings.impressions,
            "dropped": readings.impressions_dropped,
            "learned": readings.opened,
        },
        interactions_settled=readings.settled,
    )


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
