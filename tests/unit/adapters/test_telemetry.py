import json
import logging
from collections.abc import Iterator
from typing import get_args

import pytest
import structlog
from prometheus_client import CollectorRegistry

from libs.adapters.telemetry import (
    DEAD_LETTER_REASONS,
    OUTCOMES,
    REJECT_REASONS,
    IngestMetrics,
    LearnerMetrics,
    ServingMetrics,
    configure_logging,
)
from libs.rl.slates import Arm, Rule
from services.serving.ranking import COLD


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_every_known_series_of_the_learner_is_there_from_the_start() -> None:
    registry = CollectorRegistry()
    LearnerMetrics(registry, [("moard.events", 0), ("moard.contents", 0)])
    for outcome in OUTCOMES:
        assert value(registry, "moard_learner_interactions_total", outcome=outcome) == 0
    for reason in DEAD_LETTER_REASONS:
        assert value(registry, "moard_learner_dead_letters_total", reason=reason) == 0
    for name in ("consumer_lag_records", "consumer_lag_seconds", "log_end_offset", "position"):
        for topic in ("moard.events", "moard.contents"):
            assert value(registry, f"moard_learner_{name}", topic=topic, partition="0") == 0
    assert value(registry, "moard_learner_records_consumed_total", topic="moard.events", partition="0") == 0
    assert value(registry, "moard_learner_event_age_seconds_count", stage="trained") == 0


def test_what_was_not_measured_yet_claims_nothing() -> None:
    registry = CollectorRegistry()
    LearnerMetrics(registry, [])
    ServingMetrics(registry)
    unknown = [
        value(registry, "moard_learner_policy_value", policy="uniform", estimator="ips", stat="value", span="window"),
        value(registry, "moard_learner_choice_quality", measure="auc", span="total"),
        value(registry, "moard_learner_slate_entropy_nats"),
        value(registry, "moard_serving_snapshot_age_seconds"),
    ]
    assert [each for each in unknown if each is None or each == each] == []
    assert value(registry, "moard_learner_evaluation_valid", reason="propensities", span="window") == 1
    assert value(registry, "moard_learner_exploration_boost") == 1


def test_every_ranking_that_can_happen_has_its_series() -> None:
    registry = CollectorRegistry()
    ServingMetrics(registry)
    for policy in (COLD, *get_args(Rule)):
        for arm in get_args(Arm):
            assert value(registry, "moard_serving_rankings_total", policy=policy, arm=arm) == 0


def test_series_of_ingest_and_serving_are_there_too() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    assert value(registry, "moard_ingest_events_total", result="unavailable") == 0
    serving = CollectorRegistry()
    ServingMetrics(serving)
    for reason in REJECT_REASONS:
        assert value(serving, "moard_serving_snapshot_rejected_total", reason=reason) == 0
    assert value(serving, "moard_freshness_seconds_count") == 0


def test_every_metric_has_a_help_text_and_a_known_prefix() -> None:
    registry = CollectorRegistry()
    LearnerMetrics(registry, [])
    for metric in registry.collect():
        assert metric.name.startswith(("moard_", "kafka_consumergroup_lag"))
        assert metric.documentation.endswith(".")


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.usefixtures("_restored_logging")
def test_both_kinds_of_loggers_write_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    structlog.get_logger("moard").info("snapshot.published", version=3)
    logging.getLogger("aiokafka").warning("lost %s", "it")
    logging.getLogger("aiokafka").debug("not this")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [
        ("snapshot.published", "info", "moard"),
        ("lost it", "warning", "aiokafka"),
    ]
    assert lines[0]["version"] == 3
