"""Numbers out of metrics pages, by hand; the pages are made by the services' own declarations."""

import math

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from examples.movielens.pace import Pace, PaceSettings
from examples.movielens.readings import NOTHING_YET, Page, Readings
from libs.adapters.metrics import IngestMetrics, LearnerMetrics, ServingMetrics
from libs.events.topics import CONTENTS, EVENTS


def page(registry: CollectorRegistry) -> Page:
    return Page(generate_latest(registry).decode())


def readings(at_s: float = 10.0) -> Readings:
    registries = [CollectorRegistry() for _ in range(3)]
    ingest = IngestMetrics(registries[0])
    ingest.events.labels("accepted").inc(120)
    ingest.events.labels("rejected").inc(3)
    learner = LearnerMetrics(registries[1], [(EVENTS, "0"), (EVENTS, "1"), (CONTENTS, "0")])  # type: ignore[list-item]
    learner.lag_records.labels(EVENTS, "0").set(4)
    learner.lag_records.labels(EVENTS, "1").set(5)
    learner.lag_records.labels(CONTENTS, "0").set(100)
    learner.interactions.labels("joined").inc(70)
    learner.interactions.labels("organic").inc(40)
    learner.impressions.inc(50)
    learner.stale_history.inc(2)
    learner.updates.inc(30)
    learner.loss.labels("total").set(1.25)
    serving = ServingMetrics(registries[2])
    serving.snapshot_version.set(1_790_000_000_000)
    serving.snapshot_age.set(0.75)
    serving.impressions.inc(80)
    for value in (0.8, 0.9, 1.1, 1.2):
        serving.freshness.observe(value)
    return Readings(at_s, *(page(registry) for registry in registries))


def test_every_figure_comes_from_the_metric_that_means_it() -> None:
    now = readings()

    assert now.accepted == 120
    assert now.lag_records == 9
    assert now.settled == 110
    assert now.stale_history == 0.04
    assert now.updates == 30
    assert now.loss == 1.25
    assert now.snapshot_version == 1_790_000_000_000
    assert now.snapshot_age_s == 0.75
    assert now.impressions == 80
    assert now.events_per_s(NOTHING_YET) == 20.0
    assert now.updates_per_s(NOTHING_YET) == 3.0


def test_a_quantile_lies_inside_its_bucket() -> None:
    now = readings()

    assert now.freshness_s(0.5) == pytest.approx(1.0)  # two of four at or below the bound 1.0
    assert now.freshness_s(0.25) == pytest.approx(0.875)  # half of what the bucket (0.75, 1.0] holds
    assert now.freshness_s(1.0) == pytest.approx(1.25)


def test_a_value_above_all_bounds_counts_as_the_highest_bound() -> None:
    text = (
        '# TYPE h histogram\nh_bucket{le="1.0"} 0\nh_bucket{le="2.0"} 1\nh_bucket{le="+Inf"} 4\nh_count 4\nh_sum 30\n'
    )

    assert Page(text).quantile("h", 0.95) == 2.0


def test_before_anything_happened_nothing_is_claimed() -> None:
    assert math.isnan(NOTHING_YET.freshness_s(0.95))
    assert math.isnan(NOTHING_YET.snapshot_age_s)
    assert NOTHING_YET.snapshot_version == 0
    assert NOTHING_YET.stale_history == 0.0


async def test_the_pace_slows_down_in_proportion_to_what_is_behind() -> None:
    pace = Pace(PaceSettings(lag_records=100, snapshot_age_s=2), now=lambda: 0.0)

    pace.observe(lag_records=50, snapshot_age_s=math.nan)
    assert pace.brake == 1.0
    pace.observe(lag_records=300, snapshot_age_s=1.0)
    assert pace.brake == 3.0
    pace.observe(lag_records=0, snapshot_age_s=8.0)
    assert pace.brake == 4.0
    pace.observe(lag_records=1e9, snapshot_age_s=0.0)
    assert pace.brake == 10.0


async def test_requests_are_spaced_by_rate_and_brake(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(round(delay_s, 6))

    monkeypatch.setattr("examples.movielens.pace.asyncio.sleep", sleep)
    pace = Pace(PaceSettings(requests_per_s=100, lag_records=100), now=lambda: 0.0)

    await pace.slot()
    pace.observe(lag_records=200, snapshot_age_s=0.0)
    await pace.slot()

    assert waits == [0.01, 0.03]
