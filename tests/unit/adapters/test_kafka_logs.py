import logging

import pytest

from libs.adapters.kafka_logs import RateLimit, limit_kafka_logs


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, text, values, None)


def test_a_template_is_logged_once_per_interval_whatever_its_values() -> None:
    limit = RateLimit(interval_s=60)
    assert limit.filter(record("Unable to connect to %s", "a"))
    assert not limit.filter(record("Unable to connect to %s", "b"))
    assert limit.filter(record("Something else"))


def test_what_was_withheld_is_told_with_the_next() -> None:
    limit = RateLimit(interval_s=0.0)
    limit._last[("aiokafka", "Unable to connect to %s")] = (0.0, 7)
    told = record("Unable to connect to %s", "a")
    assert limit.filter(told)
    assert told.getMessage() == "Unable to connect to a (7 alike withheld)"


def test_the_limit_is_installed_once(caplog: pytest.LogCaptureFixture) -> None:
    limit_kafka_logs()
    limit_kafka_logs()
    assert sum(isinstance(each, RateLimit) for each in logging.getLogger("aiokafka.conn").filters) == 1
