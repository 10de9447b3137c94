"""The committed metrics page is what the services declare."""

import re
from pathlib import Path

from services.cli import metrics_reference

ROOT = Path(__file__).parents[3]
SPECIFIED = """
moard_learner_consumer_lag_records moard_learner_consumer_lag_seconds moard_learner_log_end_offset
moard_learner_position moard_learner_records_consumed_total
moard_learner_event_age_seconds moard_learner_interactions_total
moard_learner_dead_letters_total moard_learner_open_impressions moard_learner_watermark_timestamp_seconds
moard_learner_replay_rows moard_learner_updates_total moard_learner_loss moard_learner_q_value
moard_learner_checkpoint_age_seconds moard_learner_checkpoint_duration_seconds moard_learner_snapshot_version
moard_learner_stale_history_total moard_serving_snapshot_age_seconds moard_serving_snapshot_version
moard_serving_snapshot_rejected_total moard_serving_rankings_total moard_serving_degraded_total
moard_serving_impressions_dropped_total moard_freshness_seconds moard_ingest_events_total moard_ingest_buffer_records
moard_http_request_seconds kafka_consumergroup_lag
"""
"""What dashboards outside of this repository may rely on."""


def test_the_committed_page_is_true() -> None:
    committed = (ROOT / metrics_reference.PAGE).read_text()
    assert committed == metrics_reference.page(), "it is old: run python -m services.cli.metrics_reference"


def test_the_page_has_every_promised_name_once_and_says_what_each_means() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (counter|gauge|histogram) \| .* \| (.+) \|$", metrics_reference.page(), re.MULTILINE
    )
    names = [name for name, _, _ in rows]
    assert len(set(names)) == len(names)
    assert set(SPECIFIED.split()) <= set(names)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind, _ in rows)
    assert all(text.endswith(".") for _, _, text in rows)


def test_labels_are_listed_with_the_values_that_exist_from_the_start() -> None:
    page = metrics_reference.page()
    assert "`stage`: arrival, insert, trained" in page
    assert "| `moard_learner_position` | gauge | `topic`; `partition` |" in page
