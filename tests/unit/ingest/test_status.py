"""What ingest says of itself."""

from prometheus_client import CollectorRegistry

from libs.adapters.metrics import IngestMetrics
from libs.events.topics import HISTORY_GROUP, LEARNER_GROUP
from services.ingest.status import IngestStatus


async def test_ingest_tells_events_projector_and_what_it_waits_for() -> None:
    metrics, missing = IngestMetrics(CollectorRegistry()), ["broker"]

    async def waiting_for() -> list[str]:
        return missing

    status = IngestStatus(metrics, waiting_for, lambda: 5)
    metrics.events.labels("accepted").inc(3)
    metrics.lag_records.labels("moard.events", "3").set(7)
    metrics.group_lag.labels(LEARNER_GROUP, "moard.events", "3").set(9)
    metrics.group_lag.labels(HISTORY_GROUP, "moard.events", "3").set(8)
    found = await status.describe()
    assert found["health"] == {"state": "starting", "waiting_for": ["broker"], "alarms": []}
    assert found["events"] == {"accepted": 3, "rejected": 0, "unavailable": 0}
    assert found["buffer_records"] == 5
    assert found["projector"]["partitions"] == [{"topic": "moard.events", "partition": 3, "lag_records": 7}]
    assert found["learner"]["partitions"] == [{"topic": "moard.events", "partition": 3, "lag_records": 9}]
    missing.clear()
    assert (await status.describe())["health"]["state"] == "ok"
