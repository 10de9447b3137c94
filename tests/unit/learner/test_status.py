"""What a learner says of itself."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from libs.adapters.memory import MemoryProducer, MemoryTopicAdmin
from libs.adapters.status import MemoryStatusBoard
from libs.adapters.telemetry import LearnerMetrics
from libs.events.topics import CONTENTS, EVENTS
from services.learner.assembly import Learner, Ports
from services.learner.status import LearnerStatus
from tests.builders import impression, interaction
from tests.unit.learner.stand import Stand, eventually


def status_of(metrics: LearnerMetrics, healthy: bool | None = True) -> LearnerStatus:
    return LearnerStatus(metrics, lambda: healthy)


@pytest.fixture
def metrics() -> LearnerMetrics:
    return LearnerMetrics(CollectorRegistry(), [(EVENTS, 0), (EVENTS, 11), (CONTENTS, 0)])


async def test_lag_is_told_by_partition_and_together(metrics: LearnerMetrics) -> None:
    for partition, records, seconds in (("0", 3, 1.5), ("11", 4, 9.0)):
        metrics.lag_records.labels(EVENTS, partition).set(records)
        metrics.lag_seconds.labels(EVENTS, partition).set(seconds)
    metrics.log_end_offset.labels(EVENTS, "11").set(104)
    metrics.position.labels(EVENTS, "11").set(100)
    status = await status_of(metrics).describe()
    assert status["lag"] == {"records": 7, "seconds": 9.0, "read_per_s": 0.0, "drain_s": float("inf")}
    assert [(one["topic"], one["partition"]) for one in status["partitions"]] == [
        (EVENTS, 0),
        (EVENTS, 11),
        (CONTENTS, 0),
    ]
    assert status["partitions"][1] == {
        "topic": EVENTS,
        "partition": 11,
        "lag_records": 4,
        "lag_s": 9.0,
        "end_offset": 104,
        "position": 100,
        "read_per_s": 0.0,
        "appended_per_s": 0.0,
    }


async def test_an_alarm_comes_with_its_remedy(metrics: LearnerMetrics) -> None:
    assert (await status_of(metrics).describe())["health"]["alarms"] == []
    for alarm in ("divergence", "stale_history"):
        metrics.health.alarm.labels(alarm).set(1)
    health = (await status_of(metrics, healthy=False).describe())["health"]
    assert health["state"] == "failing"
    assert [alarm["alarm"] for alarm in health["alarms"]] == ["divergence", "stale_history"]
    assert all(len(alarm["remedy"]) > 20 for alarm in health["alarms"])


async def test_what_served_is_told_beside_the_uniform_arm(metrics: LearnerMetrics) -> None:
    metrics.evaluation.logged_value.labels("window").set(0.4)
    for stat, number in (("value", 0.2), ("low", 0.1), ("high", 0.3)):
        metrics.evaluation.policy_value.labels("uniform", "snrips", stat, "window").set(number)
    metrics.evaluation.policy_weights.labels("uniform", "snrips", "ess", "window").set(80)
    metrics.evaluation.valid.labels("mean_weight", "window").set(0)
    found = (await status_of(metrics).describe())["evaluation"]["window"]
    assert found["served"] == 0.4
    assert found["uniform"] == {"value": 0.2, "low": 0.1, "high": 0.3, "ess": 80}
    assert found["invalid"] == ["mean_weight"]


class CountingBoard(MemoryStatusBoard):
    posts = 0

    async def put(self, service: str, instance: str, status: bytes) -> None:
        await super().put(service, instance, status)
        self.posts += 1


async def test_a_learner_is_on_the_board_while_it_runs(tmp_path: Path) -> None:
    stand, board = Stand(tmp_path), CountingBoard()
    registry = CollectorRegistry()
    ports = Ports(MemoryTopicAdmin(stand.log), MemoryProducer(stand.log), stand.reader(), stand.store, board)
    learner = Learner(stand._settings(), ports, registry)

    async def statuses() -> list[dict[str, Any]]:
        return [orjson.loads(posted.status) for posted in await board.all()]

    shown = impression("ann", timestamp_ms=None)
    stand.append(shown, interaction("ann", 1, impression_id=shown.event_id, timestamp_ms=None))
    async with learner.running():
        joined = {"outcome": "joined"}
        await eventually(lambda: registry.get_sample_value("moard_learner_interactions_total", joined), "a join")
        posted = board.posts
        await eventually(lambda: board.posts > posted + 1, "a status after it")
        [status] = await statuses()
        assert status["outcomes"]["joined"] == 1
        assert status["health"]["state"] == "ok"
        assert status["settings"]["MOARD_LEARNER_CHECKPOINT_PATH"] == str(tmp_path)
        assert sum(one["position"] for one in status["partitions"]) == 2
    assert await statuses() == []
