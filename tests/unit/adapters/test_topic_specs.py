import pytest

from libs.adapters.event_log import topic_specs
from libs.adapters.settings import StackSettings


@pytest.fixture
def settings() -> StackSettings:
    return StackSettings(_env_file=None, events_partitions=6, events_retention_hours=2, dead_letter_retention_hours=3)


def test_the_three_topics_take_partitions_and_retention_from_the_settings(settings: StackSettings) -> None:
    events, contents, dead = topic_specs(settings)
    assert (events.name, events.partitions, events.config["retention.ms"]) == ("moard.events", 6, "7200000")
    assert (contents.name, contents.partitions, contents.config["cleanup.policy"]) == ("moard.contents", 1, "compact")
    assert (dead.name, dead.partitions, dead.config["retention.ms"]) == ("moard.events.dlq", 1, "10800000")


def test_all_topics_use_the_brokers_clock(settings: StackSettings) -> None:
    assert {spec.config["message.timestamp.type"] for spec in topic_specs(settings)} == {"LogAppendTime"}
